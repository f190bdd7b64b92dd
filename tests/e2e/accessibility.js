// Rules of accessibility for one page, as a list of what breaks them. Kept small: what WCAG 2.1 AA asks of these pages.
() => {
  const found = [];
  const say = (rule, node) => found.push(`${rule}: ${node.outerHTML ? node.outerHTML.slice(0, 120) : node}`);
  const all = (query) => [...document.querySelectorAll(query)];
  const text = (node) => (node.getAttribute("aria-label") || node.textContent || node.value || "").trim();
  if (!document.documentElement.lang) say("language", "html");
  if (!document.title.trim()) say("title", "head");
  for (const query of ["main", "header", "nav[aria-label]"]) if (all(query).length !== 1) say("landmark", query);
  const headings = all("h1, h2, h3, h4");
  if (all("h1").length !== 1) say("one h1", document.title);
  headings.reduce((before, node) => {
    const level = Number(node.tagName[1]);
    if (level > before + 1) say("heading order", node);
    if (!text(node)) say("empty heading", node);
    return level;
  }, 0);
  for (const node of all("a[href], button, summary")) if (!text(node)) say("name", node);
  for (const node of all("input:not([type=hidden]), select, textarea")) if (!node.labels || !node.labels.length) say("label", node);
  for (const node of all("svg, img, [role=img]")) {
    const inside = node.closest("[aria-label]") || node.closest("[aria-hidden=true]");
    if (!inside) say("description of a picture", node);
  }
  for (const node of all("table")) if (!node.querySelector("th[scope]")) say("table headers", node);
  const ids = all("[id]").map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) say("id twice", id);
  for (const node of all("[aria-labelledby]")) if (!document.getElementById(node.getAttribute("aria-labelledby"))) say("labelledby", node);
  for (const node of all("*")) if (node.tabIndex > 0) say("tabindex", node);
  for (const node of all("*")) {
    const style = getComputedStyle(node);
    if (/auto|scroll/.test(style.overflowX) && node.scrollWidth > node.clientWidth && node.tabIndex < 0) say("scrolls without keys", node);
  }
  const light = (colour) => {
    const part = colour.match(/[\d.]+/g).slice(0, 3).map((each) => Number(each) / 255);
    const [r, g, b] = part.map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || !parent.getClientRects().length || parent.closest(".hidden, .skip, option")) continue;
    const style = getComputedStyle(parent);
    const colour = parent.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(colour), light(behind(parent))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) say(`contrast ${((a + 0.05) / (b + 0.05)).toFixed(2)}`, parent);
  }
  return [...new Set(found)];
}
