"""Ways through proxies: which proxy is for a URL, and the upgrades that lead through it."""
