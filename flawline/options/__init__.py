"""The options of every section and method, without the code that reads them."""
