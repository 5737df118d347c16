"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const root = document.documentElement;
  root.classList.add("scripted");

  // Light and dark: the system's choice until the reader makes another.
  const button = one(".theme");
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("theme", value);
      return localStorage.getItem("theme");
    } catch {
      return value; // storage can be forbidden to local files
    }
  };
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const showTheme = () => button.setAttribute("aria-pressed", String(isDark()));
  const chosen = remembered();
  if (chosen) root.dataset.theme = chosen;
  showTheme();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    showTheme();
  });

  // A link into a closed section opens it.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Sorting: what was not measured stays at the end.
  const sort = (header) => {
    const table = header.closest("table");
    const column = header.cellIndex;
    const words = column === 0;
    const descending = header.ariaSort ? header.ariaSort === "ascending" : !words;
    const value = (row) => (words ? row.cells[0].textContent.trim() : row.cells[column].dataset.value || "");
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const found = words ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return descending ? -found : found;
    };
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  };
  for (const control of all(".sortable .sort")) control.addEventListener("click", () => sort(control.parentElement));

  // One board at a time, and only the detectors and categories that the reader asks for.
  const metric = one("#metric");
  const showBoard = () => {
    for (const board of all(".board")) board.hidden = board.dataset.board !== metric.value;
  };
  const matches = (field) => {
    const words = field.value.toLowerCase().split(/[\s,;]+/).filter(Boolean);
    return (name) => !words.length || words.some((word) => name.toLowerCase().includes(word));
  };
  // Means and the marks of the best are those of what is shown.
  const mark = (cells, better) => {
    const shown = cells.filter((cell) => !cell.closest("tr").hidden && cell.dataset.value !== undefined && cell.dataset.part === undefined);
    const values = shown.map((cell) => Number(Number(cell.dataset.value).toFixed(3)));
    const best = better === "higher" ? Math.max(...values) : Math.min(...values);
    shown.forEach((cell, i) => {
      if (values.length < 2 || values[i] !== best) return;
      const sign = Object.assign(document.createElement("i"), { className: "best", ariaHidden: "true", textContent: "▲" });
      const words = Object.assign(document.createElement("span"), { className: "unseen", textContent: " best" });
      const strong = Object.assign(document.createElement("strong"), { textContent: cell.firstChild.textContent.trim() });
      cell.firstChild.replaceWith(sign, strong, words);
    });
  };
  const recount = (table) => {
    const rows = [...table.tBodies[0].rows];
    const whole = rows.every((row) => !row.hidden) && [...table.tHead.rows[0].cells].every((cell) => !cell.hidden);
    for (const cell of rows.flatMap((row) => [...row.cells].slice(1))) {
      cell.whole ??= { content: cell.innerHTML, value: cell.dataset.value };
      cell.innerHTML = cell.whole.content;
      if (!whole && one(".best", cell)) {
        all(".best, .unseen", cell).forEach((part) => part.remove());
        one("strong", cell).replaceWith(one("strong", cell).textContent);
      }
    }
    const measured = (cell) => !cell.hidden && cell.dataset.value !== undefined;
    const total = new Set(rows.flatMap((row) => [...row.cells].slice(2).filter(measured)).map((cell) => cell.cellIndex)).size;
    for (const row of rows) {
      const [, mean, ...cells] = row.cells;
      const values = cells.filter(measured).map((cell) => Number(cell.dataset.value));
      const found = values.reduce((sum, value) => sum + value, 0) / values.length;
      delete mean.dataset.value;
      delete mean.dataset.part;
      if (whole) {
        if (mean.whole.value !== undefined) mean.dataset.value = mean.whole.value;
        continue;
      }
      if (values.length) mean.dataset.value = found;
      mean.textContent = values.length ? found.toFixed(3) : "–";
      if (!values.length || values.length === total) continue;
      mean.dataset.part = ""; // a mean over fewer categories is not comparable
      mean.append(Object.assign(document.createElement("span"), { className: "range", textContent: `${values.length} of ${total}` }));
    }
    if (whole) return;
    const columns = [...table.tHead.rows[0].cells].map((cell) => cell.cellIndex).slice(1);
    for (const column of columns) mark(rows.map((row) => row.cells[column]), table.dataset.better);
  };

  const filter = () => {
    const detector = matches(one("#detectors"));
    const category = matches(one("#categories"));
    for (const item of all("[data-detector]")) item.toggleAttribute("hidden", !detector(item.dataset.detector));
    for (const item of all("[data-category]")) {
      if (item.dataset.category) item.hidden = !category(item.dataset.category);
    }
    for (const header of all(".leaderboard thead th[data-category]")) {
      for (const row of header.closest("table").tBodies[0].rows) row.cells[header.cellIndex].hidden = header.hidden;
    }
    one("#none").hidden = [...document.querySelectorAll(".leaderboard tbody tr")].some((row) => !row.hidden);
    for (const charts of all(".rankings .costs")) {
      charts.hidden = !all("[data-detector]", charts).some((item) => !item.hasAttribute("hidden"));
    }
    all(".leaderboard").forEach(recount);
    const count = (kind) => {
      const names = new Set(all(`[data-${kind}]`).map((item) => item.dataset[kind]).filter(Boolean));
      const shown = [...names].filter(kind === "detector" ? detector : category);
      return shown.length < names.size ? `${shown.length} of ${names.size} ${kind === "detector" ? "detectors" : "categories"}` : "";
    };
    one("#shown").value = [count("detector"), count("category")].filter(Boolean).join(", ");
  };
  if (metric) {
    metric.addEventListener("change", showBoard);
    for (const field of all(".controls input")) field.addEventListener("input", filter);
    one(".controls").addEventListener("submit", (event) => event.preventDefault());
    showBoard();
  }

  // Pointing at a detector lights it up in every table and chart of the leaderboard.
  const light = (event) => {
    const name = event.target.closest?.(".rankings [data-detector]")?.dataset.detector;
    for (const item of all(".rankings [data-detector]")) item.classList.toggle("lit", item.dataset.detector === name);
  };
  one(".rankings")?.addEventListener("pointerover", light);
  one(".rankings")?.addEventListener("focusin", light);

  // Seeds as tabs.
  for (const list of all("[role=tablist]")) {
    const tabs = all("[role=tab]", list);
    const choose = (tab, focus) => {
      for (const other of tabs) {
        const on = other === tab;
        other.setAttribute("aria-selected", String(on));
        other.tabIndex = on ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
      }
      if (focus) tab.focus();
    };
    choose(tabs[0]);
    list.addEventListener("click", (event) => event.target.role === "tab" && choose(event.target));
    list.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) choose(tabs.at((tabs.indexOf(event.target) + step) % tabs.length), true);
    });
  }

  // The threshold.
  const short = (value) => (Math.abs(value) >= 1e4 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4))));
  const percent = (share) => {
    const digits = (share > 0 && share < 0.0995) || (share > 0.9005 && share < 1) ? 1 : 0;
    return (100 * share).toFixed(digits);
  };

  // Clopper and Pearson's interval of a share, as in flawline/evaluation/intervals.py.
  const highest = (count, n, confidence) => {
    if (count === n) return 1;
    const below = (p) => {
      let term = n * Math.log1p(-p);
      let sum = Math.exp(term);
      for (let i = 0; i < count; i++) {
        term += Math.log(((n - i) / (i + 1)) * (p / (1 - p)));
        sum += Math.exp(term);
      }
      return sum;
    };
    let [low, high] = [count / n, 1];
    for (let i = 0; i < 50; i++) {
      const middle = (low + high) / 2;
      if (below(middle) > (1 - confidence) / 2) low = middle;
      else high = middle;
    }
    return low;
  };
  const exact = (count, n, confidence) => [1 - highest(n - count, n, confidence), highest(count, n, confidence)];
  const summed = (rates, ends, weights) => {
    const middle = rates[0] * weights[0] + rates[1] * weights[1];
    const reach = (side) => Math.hypot(...rates.map((rate, i) => weights[i] * (rate - ends[i][side])));
    return [Math.max(middle - reach(0), 0), Math.min(middle + reach(1), 1)];
  };

  const decide = ({ scores, types, confidence }, threshold) => {
    const above = (values) => values.filter((score) => score > threshold).length;
    const [good, bad] = [scores.good || [], scores.defective || []];
    const [alarms, found] = [above(good), above(bad)];
    const [passed, missed] = [good.length - alarms, bad.length - found];
    const both = good.length && bad.length;
    const [recall, rate] = [found / bad.length, alarms / good.length];
    const share = bad.length / (good.length + bad.length);
    const ends = {};
    if (bad.length) {
      ends.recall = exact(found, bad.length, confidence);
      ends.missed = exact(missed, bad.length, confidence);
    }
    if (good.length) ends.false_alarm_rate = exact(alarms, good.length, confidence);
    if (both) {
      const [low, high] = ends.false_alarm_rate;
      const rates = [recall, 1 - rate];
      const each = [ends.recall, [1 - high, 1 - low]];
      ends.accuracy = summed(rates, each, [share, 1 - share]);
      ends.balanced_accuracy = summed(rates, each, [0.5, 0.5]);
      if (found + alarms) ends.precision = exact(found, found + alarms, confidence);
      ends.f1 = exact(found, bad.length + alarms, confidence).map((end) => (2 * end) / (1 + end));
    }
    return {
      threshold,
      fixed: threshold,
      true_positive: found,
      false_negative: missed,
      false_positive: alarms,
      true_negative: passed,
      recall,
      missed_share: missed / bad.length,
      false_alarm_rate: rate,
      false_alarm_rate_share: rate,
      precision: both ? found / (found + alarms) : NaN,
      f1: both ? (2 * found) / (found + alarms + bad.length) : NaN,
      accuracy: both ? (found + passed) / (good.length + bad.length) : NaN,
      balanced_accuracy: (recall + 1 - rate) / 2,
      calibration_rejected: above(scores.calibration || []),
      ends,
      of_type: (type) => {
        const own = bad.filter((_, i) => types[i] === type);
        const left = own.length - above(own);
        return { missed: left, ends: { missed: exact(left, own.length, confidence) } };
      },
      said: [
        ...(bad.length ? [`${missed} missed`] : []),
        ...(good.length ? [`${alarms} wrongly rejected`] : []),
        ...(both || good.length || bad.length ? [] : [`${above(scores.calibration || [])} good calibration parts rejected`]),
      ].join(", "),
    };
  };
  const counted = ["true_positive", "false_negative", "false_positive", "true_negative", "calibration_rejected", "missed"];
  const write = (cell, found) => {
    const key = cell.dataset.live;
    const value = found[key];
    if (Number.isNaN(value)) cell.textContent = "–";
    else if (counted.includes(key)) cell.textContent = value;
    else if (key === "threshold") cell.textContent = short(value);
    else if (key === "fixed") cell.textContent = Number(value.toPrecision(6));
    else if (key === "risk") cell.textContent = value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
    else if (key.endsWith("_share")) cell.textContent = `${percent(value)}\u00a0%`;
    else cell.textContent = value.toFixed(3);
  };
  const writeEnds = (cell, found) => {
    const ends = found.ends[cell.dataset.ends];
    const form = cell.dataset.form === "percent" ? percent : (value) => value.toFixed(3);
    cell.textContent = ends ? ends.map(form).join("–") + (cell.dataset.form === "percent" ? "\u00a0%" : "") : "";
  };

  // A gallery shows first what the threshold calls wrong, the most wrong first.
  const rearrange = (gallery, threshold, inUse) => {
    const call = ({ dataset: { score, truth } }) => {
      const rejected = Number(score) > threshold;
      if (truth === "defective") return rejected ? "Found" : "Miss";
      return rejected ? "False alarm" : "Passed";
    };
    const items = all("li", gallery);
    items.forEach((item, place) => {
      item.dataset.place ??= place;
      const kind = one("b", item);
      kind.textContent = threshold === inUse ? item.dataset.kind : call(item);
      kind.classList.toggle("wrong", ["Miss", "False alarm"].includes(kind.textContent));
    });
    const order = (item) => {
      const rank = threshold === inUse ? 2 : ["Miss", "False alarm"].indexOf(call(item));
      const score = Number(item.dataset.score);
      return [rank < 0 ? 2 : rank, [score, -score][rank] ?? Number(item.dataset.place)];
    };
    gallery.append(...items.sort((a, b) => order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1]));
  };
  const decisions = new WeakMap();
  const decision = (element) => {
    const place = element.closest(".decision");
    if (!decisions.has(place)) {
      const data = JSON.parse(one("script", place).textContent);
      decisions.set(place, { place, data, threshold: data.threshold, slider: one("input[type=range]", place), costs: { ...data.costs } });
    }
    return decisions.get(place);
  };
  const show = ({ place, data, threshold, slider, costs }) => {
    const found = decide(data, threshold);
    found.risk = 1000 * (costs.defect_rate * costs.miss * (1 - found.recall) + (1 - costs.defect_rate) * costs.false_alarm * found.false_alarm_rate);
    const section = place.closest(".detector");
    const panel = place.parentElement;
    for (const within of [panel, one(".headline", section)]) {
      for (const cell of all("[data-live], [data-ends]", within)) {
        cell.inUse ??= cell.innerHTML;
        const type = cell.closest("[data-type]");
        const values = type ? found.of_type(type.dataset.type) : found;
        if (threshold === data.threshold && cell.dataset.live !== "risk") cell.innerHTML = cell.inUse;
        else if (cell.dataset.live) write(cell, values);
        else writeEnds(cell, values);
      }
    }
    for (const gallery of all("[data-follows]", panel)) rearrange(gallery, threshold, data.threshold);
    const [low, high] = data.range;
    const part = (threshold - low) / (high - low);
    one(".threshold-line", place).setAttribute("transform", `translate(${340 * part} 0)`);
    slider.setAttribute("aria-valuetext", `${short(threshold)}: ${found.said}`);
    for (const part of all(".reset, .fixing", place)) part.hidden = threshold === data.threshold;
    const points = { roc: [found.false_alarm_rate, found.recall], pr: [found.recall, found.precision] };
    for (const chart of all("[data-curve]", place.parentElement)) {
      const [x, y] = points[chart.dataset.curve] || [];
      const mark = one(".mark", chart);
      if (!mark) continue;
      const [left, top, width, height] = chart.dataset.plot.split(" ").map(Number);
      mark.style.visibility = Number.isNaN(x) || Number.isNaN(y) ? "hidden" : "visible";
      if (mark.style.visibility === "visible") {
        mark.setAttribute("cx", left + x * width);
        mark.setAttribute("cy", top + height - y * height);
      }
    }
  };
  document.addEventListener("input", ({ target }) => {
    if (!target.closest(".decision")) return;
    const state = decision(target);
    if (target.type === "range") {
      const [low, high] = state.data.range;
      state.threshold = low + (target.value / 1000) * (high - low);
    } else {
      state.costs[target.dataset.cost] = Number(target.value) / (target.dataset.cost === "defect_rate" ? 100 : 1);
    }
    show(state);
  });

  // Enlarged pictures, one after the other.
  const viewer = one("#viewer");
  let row = [];
  let at = 0;
  const enlarge = (index) => {
    at = (index + row.length) % row.length;
    const picture = one("img", row[at]);
    const parts = Number(row[at].dataset.parts || 1);
    const panels = Array.from({ length: parts }, (_, number) => {
      const panel = new Image();
      panel.src = picture.src;
      panel.alt = number ? "" : picture.alt;
      if (parts > 1) {
        panel.className = "part";
        panel.style.aspectRatio = `${picture.naturalWidth / parts} / ${picture.naturalHeight}`;
        panel.style.objectPosition = `${(100 * number) / (parts - 1)}% 50%`;
      }
      return panel;
    });
    one(".panels", viewer).replaceChildren(...panels);
    one("figcaption", viewer).textContent = picture.alt;
  };
  document.addEventListener("click", ({ target }) => {
    if (target.matches(".reset")) {
      const state = decision(target);
      const [low, high] = state.data.range;
      state.threshold = state.data.threshold;
      state.slider.value = ((state.threshold - low) / (high - low)) * 1000;
      show(state);
      state.slider.focus();
    }
    const opener = target.closest(".enlarge");
    if (opener) {
      row = all(".enlarge", opener.closest(".gallery, .picture, .card"));
      enlarge(row.indexOf(opener));
      for (const step of all("[data-step='-1'], [data-step='1']", viewer)) step.hidden = row.length < 2;
      viewer.showModal();
    }
    if (target === viewer || target.dataset.step === "0") viewer.close();
    else if (target.dataset.step) enlarge(at + Number(target.dataset.step));
  });
  viewer.addEventListener("keydown", ({ key }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (step) enlarge(at + step);
  });
})();
