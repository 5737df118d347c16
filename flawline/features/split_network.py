"""Split a classification network into a frozen half and its last convolutions."""

from torch import fx, nn

from flawline.errors import FlawlineError


def split_network(network: nn.Module, count: int) -> tuple[nn.Module, nn.Module]:
    """Split a network before its last convolutions, in the order in which they run.

    Everything after the last feature map, the input of global average pooling, is dropped,
    including a max-pool right before it (VGG).

    Parameters
    ----------
    network : maps (N, 3, S, S) to classes.
    count : of convolutions in the late half.

    Returns
    -------
    The early half maps images to a tuple of tensors, the late half maps these to the feature map
    (N, C, h, w). Both share modules and their names with `network`.

    Raises
    ------
    FlawlineError
        If there is no such feature map, or too few convolutions lead to it.
    """
    network = network.eval()
    graph = fx.symbolic_trace(network).graph
    modules = dict(network.named_modules())

    def runs(node: fx.Node, *kinds: type) -> bool:
        return node.op == "call_module" and isinstance(modules[str(node.target)], kinds)

    pooled = [
        node.all_input_nodes[0]
        for node in graph.nodes
        if runs(node, nn.AdaptiveAvgPool2d)
        or (node.op.startswith("call") and str(node.name).startswith(("adaptive_avg_", "mean")))
    ]
    if not pooled:
        raise FlawlineError(
            f"{type(network).__name__} has no feature map that global average pooling follows; "
            "choose a convolutional network, such as vgg16, densenet169 or mobilenet_v2"
        )
    last = pooled[-1]
    while runs(last, nn.MaxPool2d):
        last = last.all_input_nodes[0]
    wanted = _ancestors(last)
    nodes = [node for node in graph.nodes if node in wanted]
    convolutions = [node for node in nodes if runs(node, nn.Conv2d)]
    if len(convolutions) <= count:
        raise FlawlineError(
            f"{type(network).__name__} has {len(convolutions)} convolutions before its last "
            f"feature map; of these {count} cannot be the last ones"
        )
    late = set(convolutions[-count:])
    for node in nodes:
        if late.intersection(node.all_input_nodes):
            late.add(node)
    # free parameters are available in both halves, so they need not be passed on
    late |= {node for node in nodes if node.op == "get_attr" and late.intersection(node.users)}
    between = [node for node in nodes if node not in late and late.intersection(node.users)]
    early_graph, late_graph = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node not in late:
            copies[node] = early_graph.node_copy(node, lambda other: copies[other])
    early_graph.output(tuple(copies[node] for node in between))
    copies = {node: late_graph.placeholder(f"early_{i}") for i, node in enumerate(between)}
    for node in nodes:
        if node in late:
            copies[node] = late_graph.node_copy(node, lambda other: copies[other])
    late_graph.output(copies[last])
    return fx.GraphModule(network, early_graph), fx.GraphModule(network, late_graph)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, queue = {node}, [node]
    while queue:
        new = set(queue.pop().all_input_nodes) - found
        found |= new
        queue += new
    return found
