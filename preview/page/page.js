"use strict";
// Draws the tree and the differences from the review's data. Texts are only ever set as text.
(() => {
  const review = JSON.parse(document.getElementById("review").textContent);
  const SIGNS = { create: "+", update: "~", replace: "!", delete: "−", same: "=" };
  const WORDS = { create: "new", update: "changes", replace: "made anew", delete: "removed", same: "stays" };
  const CONTEXT = 3;
  const MOST_ROWS = 2000; // of a difference that is drawn at once
  const MOST_OPENED = 200; // files that a search opens in the tree
  const MOST_PRINTED = 300;
  const byId = (id) => document.getElementById(id);

  function make(tag, kind, ...inside) {
    const one = document.createElement(tag);
    if (kind) one.className = kind;
    one.append(...inside.filter((part) => part !== null && part !== undefined));
    return one;
  }
  const sign = (verb) => {
    const one = make("span", `sign ${verb}`, SIGNS[verb]);
    one.setAttribute("role", "img");
    one.setAttribute("aria-label", WORDS[verb]);
    return one;
  };
  const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

  // -- texts ------------------------------------------------------------------------------------

  function linesOf(text) {
    const found = [];
    if (text === null) return found;
    const ranges = review.texts[text];
    for (let at = 0; at < ranges.length; at += 2)
      for (let line = ranges[at]; line < ranges[at] + ranges[at + 1]; line++) found.push(review.lines[line]);
    return found;
  }
  function changedLines(file) {
    const hunks = review.diffs[file.diff];
    let plus = 0, minus = 0;
    for (let at = 0; at < hunks.length; at += 4) {
      minus += hunks[at + 1] - hunks[at];
      plus += hunks[at + 3] - hunks[at + 2];
    }
    return [plus, minus];
  }

  // -- the tree as data -------------------------------------------------------------------------

  const nodes = new Map();
  function node(id, level, verb, label, meta, kids, show, file = null) {
    const one = { id, level, verb, label, meta, file, show, parent: null, open: false, made: null, shown: [] };
    one.name = label.toLowerCase();
    one.kids = () => {
      if (!one.made) {
        one.made = kids();
        for (const kid of one.made) kid.parent = one;
      }
      return one.made;
    };
    nodes.set(id, one);
    return one;
  }
  function fileNode(id, place) {
    const file = review.files[place];
    const [plus, minus] = changedLines(file);
    const meta = [plus ? `+${plus}` : "", minus ? `−${minus}` : ""].filter(Boolean).join(" ") || "mode";
    return node(id, 3, file.verb, file.path, meta, () => [], () => [fileView(file)], file);
  }
  function stepNode(id, place) {
    const step = review.steps[place];
    const meta = step.files.length ? counted(step.files.length, "file") : step.hidden ? "keys" : "";
    return node(id, 2, step.verb, step.name, meta,
      () => step.files.map((file, at) => fileNode(`${id}.f${at}`, file)),
      () => stepView(step));
  }
  function machineNode(id, machine) {
    const parts = () => {
      const found = machine.steps.map((step, at) => stepNode(`${id}.s${at}`, step));
      const { resources, certificates } = machine;
      if (resources.length)
        found.unshift(node(`${id}.r`, 2, worst(resources), "resources", resources.length, () => [],
          () => [table(["", "resource", "type", "what differs"], resources)]));
      if (certificates.length)
        found.push(node(`${id}.c`, 2, worst(certificates), "certificates", certificates.length, () => [],
          () => [table(["", "certificate", "of", "why"], certificates)]));
      for (const one of found)
        if (one.id.endsWith(".r") || one.id.endsWith(".c"))
          one.name += ` ${(one.id.endsWith(".r") ? resources : certificates).flat().join(" ").toLowerCase()}`;
      return found;
    };
    const one = node(id, 1, machine.verb, machine.name, machine.address, parts, () => machineView(one, machine));
    one.name += ` ${machine.address} ${machine.roles}`.toLowerCase();
    return one;
  }
  const worst = (rows) => (new Set(rows.map((row) => row[0])).size === 1 ? rows[0][0] : "update");

  const roots = review.machines.map((machine, at) => machineNode(`m${at}`, machine));
  const whole = review.cluster;
  if (whole.steps.length + whole.resources.length + whole.certificates.length) roots.push(machineNode("cluster", whole));
  if (review.artifacts.length) {
    const one = node("artifacts", 1, "update", "Programs and images", review.artifacts.length, () => [],
      () => [lineList(review.artifacts)]);
    one.name += ` ${review.artifacts.flat().join(" ").toLowerCase()}`;
    roots.push(one);
  }

  // -- what is shown of it ----------------------------------------------------------------------

  const state = { query: "", verbs: new Set(["create", "update", "replace", "delete"]), selected: null, split: true };
  const narrow = matchMedia("(max-width: 62rem)");
  let textsFound = new Map();

  function holds(text) {
    if (text === null) return false;
    if (!textsFound.has(text)) {
      const ranges = review.texts[text];
      let found = false;
      for (let at = 0; at < ranges.length && !found; at += 2)
        for (let line = ranges[at]; line < ranges[at] + ranges[at + 1] && !found; line++) found = linesFound[line] === 1;
      textsFound.set(text, found);
    }
    return textsFound.get(text);
  }
  let linesFound = null;
  function search(query) {
    state.query = query.toLowerCase();
    textsFound = new Map();
    linesFound = new Uint8Array(review.lines.length);
    if (state.query)
      review.lines.forEach((line, at) => { linesFound[at] = line.toLowerCase().includes(state.query) ? 1 : 0; });
  }

  function chosen(one) {
    for (let at = one; at; at = at.parent)
      if (state.verbs.has(at.verb) && (at === one || at.verb !== "update")) return true;
    return false;
  }
  // Whether a node or what is in it is to be seen; a name that is found brings all that is in it.
  function sift(one, named) {
    const here = named || !state.query || one.name.includes(state.query);
    const kids = one.kids();
    one.shown = kids.filter((kid) => sift(kid, here));
    if (one.shown.length) return true;
    if (!chosen(one)) return false;
    if (kids.length) return here && !named && Boolean(state.query) && kids.some(chosen);
    return here || (one.file !== null && (holds(one.file.before) || holds(one.file.after)));
  }

  let rows = [];
  function arrange() {
    const shown = roots.filter((one) => sift(one, false));
    let files = 0;
    const count = (one) => { files += one.file ? 1 : 0; one.shown.forEach(count); };
    shown.forEach(count);
    const opened = Boolean(state.query) && files <= MOST_OPENED;
    rows = [];
    const walk = (list) => list.forEach((one, at) => {
      one.place = at + 1;
      one.among = list.length;
      one.unfolded = one.shown.length > 0 && (one.open || opened);
      rows.push(one);
      if (one.unfolded) walk(one.shown);
    });
    walk(shown);
    const machines = shown.filter((one) => one.id[0] === "m").length;
    byId("found").textContent = rows.length
      ? `${counted(machines, "machine")}, ${counted(files, "file")}${state.query ? " found" : ""}`
      : state.query ? "Nothing is found." : review.silent ? "Nothing changes." : "Nothing is left by the filters.";
    draw();
  }
  function draw() {
    const tree = byId("tree");
    const focused = tree.contains(document.activeElement);
    const current = rows.includes(state.selected) ? state.selected : rows[0];
    tree.replaceChildren(...rows.map((one) => {
      const item = make("div", `item level${one.level}`,
        make("span", "twist", one.shown.length ? (one.unfolded ? "▾" : "▸") : ""),
        sign(one.verb), make("span", "label", ...marked(one.label)), make("span", "meta", String(one.meta)));
      item.id = `row-${one.id}`;
      item.setAttribute("role", "treeitem");
      item.setAttribute("aria-level", one.level);
      item.setAttribute("aria-posinset", one.place);
      item.setAttribute("aria-setsize", one.among);
      item.setAttribute("aria-selected", one === state.selected);
      if (one.shown.length) item.setAttribute("aria-expanded", one.unfolded);
      item.title = one.label;
      item.tabIndex = one === current ? 0 : -1;
      return item;
    }));
    if (focused && current) rowOf(current)?.focus({ preventScroll: true });
  }
  const rowOf = (one) => byId(`row-${one.id}`);

  function select(one, { focus = true, draws = true } = {}) {
    if (!one) return;
    const before = state.selected;
    state.selected = one;
    const old = before && rowOf(before);
    if (old) { old.setAttribute("aria-selected", "false"); old.tabIndex = -1; }
    for (const stray of byId("tree").querySelectorAll("[tabindex='0']")) stray.tabIndex = -1;
    const row = rowOf(one);
    if (row) {
      row.setAttribute("aria-selected", "true");
      row.tabIndex = 0;
      if (focus) row.focus({ preventScroll: true });
      row.scrollIntoView({ block: "nearest" });
    }
    if (draws) show();
    try { history.replaceState(null, "", `#${one.id}`); } catch { /* a viewer that has no history */ }
    for (const link of document.querySelectorAll(".picture a[aria-current]")) link.removeAttribute("aria-current");
    let top = one;
    while (top.parent) top = top.parent;
    document.querySelector(`.picture a[href="#${top.id}"]`)?.setAttribute("aria-current", "true");
  }
  function unfold(one, open) {
    one.open = open;
    arrange();
  }
  // A node by its id, with all above it made and opened.
  function reach(id) {
    const parts = id.split(".");
    let one = nodes.get(parts[0]);
    for (let at = 1; one && at < parts.length; at++) {
      one.kids();
      one.open = true;
      one = nodes.get(parts.slice(0, at + 1).join("."));
    }
    return one || null;
  }

  // -- the pane ---------------------------------------------------------------------------------

  function show() {
    const one = state.selected;
    const pane = byId("pane");
    if (!one) {
      pane.replaceChildren(make("p", "empty", review.silent ? "Nothing changes." : "Choose a machine, a step or a file."));
      return;
    }
    const above = [];
    for (let at = one.parent; at; at = at.parent) above.unshift(at.label);
    const title = make("h2", "", sign(one.verb), make("span", "", ...marked(one.label)));
    const head = [make("p", "crumbs", above.join(" › ") || WORDS[one.verb])];
    if (!one.file) head.push(title);
    pane.replaceChildren(...head, ...one.show());
    pane.setAttribute("aria-label", one.label);
  }
  function marked(text) {
    if (!state.query) return [text];
    const found = [], lower = text.toLowerCase(), size = state.query.length;
    // A letter whose small form has another length would shift what is marked.
    if (lower.length !== text.length) return [text];
    let from = 0;
    for (let at = lower.indexOf(state.query); at >= 0; at = lower.indexOf(state.query, from)) {
      found.push(text.slice(from, at), make("mark", "", text.slice(at, at + size)));
      from = at + size;
    }
    found.push(text.slice(from));
    return found;
  }
  function table(heads, lines) {
    const one = make("table", "rows",
      make("thead", "", make("tr", "", ...heads.map((head) => make("th", "", head)))),
      make("tbody", "", ...lines.map(([verb, ...cells]) => make("tr", "",
        make("td", "", sign(verb)), ...cells.map((cell) => make("td", "", ...marked(cell)))))));
    return one;
  }
  function lineList(lines) {
    const verb = (before, after) => (before === null ? "create" : after === null ? "delete" : "update");
    const what = (before, after) => (before === null || after === null ? after ?? before : `${before} → ${after}`);
    const one = table(["", "what", ""], lines.map(([name, before, after]) => [verb(before, after), name, what(before, after)]));
    one.classList.add("pairs");
    return one;
  }
  function machineView(one, machine) {
    const facts = [machine.address, machine.roles, machine.size].filter(Boolean).join(" · ");
    const parts = [make("p", "quiet", facts)];
    const kids = one.kids();
    if (!kids.length) parts.push(make("p", "empty", machine.verb === "delete" ? "The machine is removed." : "Nothing on it changes."));
    for (const kid of kids) {
      const link = make("a", "", kid.label);
      link.href = `#${kid.id}`;
      parts.push(make("h3", "", sign(kid.verb), " ", link), ...kid.show());
    }
    return parts;
  }
  function about(step) {
    return [
      step.files.length ? counted(step.files.length, "file") : "",
      step.lines.length ? counted(step.lines.length, "other line") : "",
      step.restarts ? `restarts ${step.restarts}` : "",
      step.why,
      step.hidden ? "its data contain keys and are never shown" : "",
    ].filter(Boolean).join(" · ") || (step.verb === "create" ? "is carried out" : "is carried out again");
  }
  function stepView(step) {
    const parts = [make("p", "quiet", about(step))];
    if (step.lines.length) parts.push(lineList(step.lines));
    parts.push(...step.files.map((file) => lazily(review.files[file])));
    return parts;
  }
  // A file's view that is drawn when it comes near the window.
  const coming = new IntersectionObserver((seen) => {
    for (const one of seen) if (one.isIntersecting) {
      coming.unobserve(one.target);
      one.target.replaceWith(fileView(review.files[one.target.dataset.file]));
    }
  }, { rootMargin: "600px" });
  function lazily(file) {
    const one = make("section", "file", make("header", "", make("h2", "path", file.path)), make("p", "empty", "…"));
    one.dataset.file = review.files.indexOf(file);
    coming.observe(one);
    return one;
  }
  function fileView(file, split = state.split && !narrow.matches) {
    const [plus, minus] = changedLines(file);
    const [before, after] = file.modes;
    const how = [
      `${plus ? `+${plus} ` : ""}${minus ? `−${minus}` : ""}`.trim(),
      before && after && before !== after ? `${before} → ${after}` : after || before,
      file.restarts ? `restarts ${file.restarts}` : "",
    ].filter(Boolean).join(" · ");
    const head = make("header", "", sign(file.verb), make("h2", "path", ...marked(file.path)), make("span", "how", how));
    const one = make("section", "file", head);
    one.setAttribute("aria-label", file.path);
    if (!plus && !minus) one.append(make("p", "empty", file.verb === "update" ? "The content stays as it is." : "The file is empty."));
    else one.append(diffTable(file, split && file.verb === "update"));
    return one;
  }

  // -- differences ------------------------------------------------------------------------------

  // Which parts of two lines differ: the longest common run of words, as [text, differs] pairs.
  function parts(one, other) {
    const cut = (text) => text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) || [];
    const a = cut(one), b = cut(other);
    if (a.length * b.length > 40000) return [[[one, false]], [[other, false]]];
    const best = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        best[i][j] = a[i] === b[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    // Lines with little in common are two lines, and not one that was changed.
    if (best[0][0] * 3 < Math.max(a.length, b.length)) return [[[one, false]], [[other, false]]];
    const left = [], right = [];
    const add = (list, text, differs) => {
      const last = list[list.length - 1];
      if (last && last[1] === differs) last[0] += text;
      else list.push([text, differs]);
    };
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { add(left, a[i++], false); add(right, b[j++], false); }
      else if (j >= b.length || (i < a.length && best[i + 1][j] >= best[i][j + 1])) add(left, a[i++], true);
      else add(right, b[j++], true);
    }
    return [left, right];
  }

  // Rows of [kind, place before, place after]; kinds are same, change, fold.
  function arranged(file, before, after) {
    const hunks = review.diffs[file.diff];
    const found = [];
    let i = 0, j = 0;
    const equal = (count, first, last) => {
      const head = first ? 0 : CONTEXT, tail = last ? 0 : CONTEXT;
      let kept = count <= head + tail + 1;
      for (let at = 0; at < count && !kept && state.query; at++)
        kept = at >= head && at < count - tail && before[i + at].toLowerCase().includes(state.query);
      if (kept) for (let at = 0; at < count; at++) found.push(["same", i + at, j + at]);
      else {
        for (let at = 0; at < head; at++) found.push(["same", i + at, j + at]);
        found.push(["fold", i + head, j + head, count - head - tail]);
        for (let at = count - tail; at < count; at++) found.push(["same", i + at, j + at]);
      }
      i += count;
      j += count;
    };
    for (let at = 0; at < hunks.length; at += 4) {
      if (hunks[at] > i) equal(hunks[at] - i, i === 0, false);
      const old = hunks[at + 1] - hunks[at], young = hunks[at + 3] - hunks[at + 2];
      for (let line = 0; line < Math.max(old, young); line++)
        found.push(["change", line < old ? i + line : null, line < young ? j + line : null]);
      i = hunks[at + 1];
      j = hunks[at + 3];
    }
    if (i < before.length) equal(before.length - i, i === 0, true);
    return found;
  }

  const numberCell = (place) => make("td", "number", place === null ? "" : String(place + 1));
  function codeCell(kind, pieces) {
    const cell = make("td", `code ${kind}`);
    for (const [text, differs] of pieces) {
      const ended = !text.endsWith("\n");
      const inside = marked(ended ? text : text.slice(0, -1));
      if (differs) cell.append(make("span", "part", ...inside));
      else cell.append(...inside);
      if (!ended) cell.append(make("span", "unended", " (no newline at the end)"));
    }
    return cell;
  }
  function diffTable(file, split) {
    const before = linesOf(file.before), after = linesOf(file.after);
    const body = make("tbody", "");
    const one = make("table", `diff ${split ? "split" : "unified"}`);
    const columns = split ? ["number", "", "number", ""] : ["number", "number", ""];
    one.append(make("caption", "hidden", `What changes in ${file.path}`),
      make("colgroup", "", ...columns.map((kind) => make("col", kind))), body);
    const width = columns.length;
    const same = (i, j) => make("tr", "", ...(split
      ? [numberCell(i), codeCell("", [[before[i], false]]), numberCell(j), codeCell("", [[after[j], false]])]
      : [numberCell(i), numberCell(j), codeCell("", [[after[j], false]])]));
    const more = (label, draws) => {
      const button = make("button", "", label);
      button.type = "button";
      const cell = make("td", "", button);
      cell.colSpan = width;
      const row = make("tr", "more", cell);
      button.addEventListener("click", () => { row.replaceWith(...draws()); });
      return row;
    };
    const splitRow = (i, j) => {
      const pair = i !== null && j !== null ? parts(before[i], after[j]) : [[[before[i] ?? "", false]], [[after[j] ?? "", false]]];
      return make("tr", "", numberCell(i), codeCell(i === null ? "void" : "minus", i === null ? [] : pair[0]),
        numberCell(j), codeCell(j === null ? "void" : "plus", j === null ? [] : pair[1]));
    };
    const drawn = (list) => {
      const out = [];
      for (let at = 0; at < list.length; at++) {
        const [kind, i, j, count] = list[at];
        if (kind === "same") out.push(same(i, j));
        else if (kind === "fold")
          out.push(more(`⋯ ${counted(count, "equal line")}`, () => Array.from({ length: count }, (_, n) => same(i + n, j + n))));
        else if (split) out.push(splitRow(i, j));
        else {
          let end = at;
          while (end < list.length && list[end][0] === "change" && (end === at || follows(list[end - 1], list[end]))) end++;
          const old = [], young = [];
          for (const [, left, right] of list.slice(at, end)) {
            const pair = left !== null && right !== null ? parts(before[left], after[right]) : null;
            if (left !== null) old.push(make("tr", "", numberCell(left), numberCell(null), codeCell("minus", pair ? pair[0] : [[before[left], false]])));
            if (right !== null) young.push(make("tr", "", numberCell(null), numberCell(right), codeCell("plus", pair ? pair[1] : [[after[right], false]])));
          }
          out.push(...old, ...young);
          at = end - 1;
        }
      }
      return out;
    };
    const all = arranged(file, before, after);
    const chunk = (from) => {
      const rest = all.length - from - MOST_ROWS;
      const out = drawn(all.slice(from, from + MOST_ROWS));
      if (rest > 0) out.push(more(`⋯ ${counted(rest, "more row")}`, () => chunk(from + MOST_ROWS)));
      return out;
    };
    body.append(...chunk(0));
    return one;
  }
  // Whether a row of a change is of the same hunk as the row before it.
  const follows = (last, next) =>
    (last[1] === null || next[1] === null || next[1] === last[1] + 1) && (last[2] === null || next[2] === null || next[2] === last[2] + 1);

  // -- hands ------------------------------------------------------------------------------------

  function step(by) {
    const at = Math.max(0, rows.indexOf(state.selected));
    const from = rows.includes(state.selected) ? at + by : 0;
    select(rows[Math.min(rows.length - 1, Math.max(0, from))]);
  }
  function nextFile(by) {
    const files = [];
    const walk = (one) => { if (one.file) files.push(one); one.shown.forEach(walk); };
    roots.filter((one) => sift(one, false)).forEach(walk);
    const at = files.indexOf(state.selected);
    const next = files[at < 0 ? 0 : at + by];
    if (!next) return;
    for (let up = next.parent; up; up = up.parent) up.open = true;
    state.selected = next;
    arrange();
    select(next);
  }
  const inTree = {
    ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1),
    Home: () => select(rows[0]), End: () => select(rows[rows.length - 1]),
    ArrowRight: () => {
      const one = state.selected;
      if (!one) step(0);
      else if (one.shown.length && !one.unfolded) unfold(one, true);
      else if (one.shown.length) step(1);
    },
    ArrowLeft: () => {
      const one = state.selected;
      if (one?.unfolded && one.open) unfold(one, false);
      else if (one?.parent) select(one.parent);
    },
    Enter: () => {
      const one = state.selected;
      if (one?.shown.length) unfold(one, !one.open);
      else if (one) byId("pane").focus();
    },
  };
  inTree.l = inTree.ArrowRight;
  inTree.h = inTree.ArrowLeft;
  inTree[" "] = inTree.Enter;
  const anywhere = {
    "/": () => { byId("search").focus(); byId("search").select(); },
    "?": () => byId("keys").showModal(),
    v: () => byId("view").click(),
    d: () => byId("scheme").click(),
    n: () => nextFile(1), p: () => nextFile(-1),
    j: inTree.j, k: inTree.k,
    Escape: () => toTree(),
  };
  function toTree() {
    if (byId("search").value) {
      byId("search").value = "";
      sought();
    }
    const one = rows.includes(state.selected) ? state.selected : rows[0];
    if (one) select(one);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
    const typing = event.target.matches("input, textarea");
    if (typing && event.key !== "Escape" && event.key !== "ArrowDown") return;
    const tree = byId("tree").contains(event.target);
    const act = typing ? () => toTreeFromSearch(event.key) : tree && inTree[event.key] || anywhere[event.key];
    if (!act || (!tree && event.target.matches("button, a") && event.key === "Enter")) return;
    event.preventDefault();
    act();
  });
  const toTreeFromSearch = (key) => {
    if (key === "Escape") toTree();
    else select(rows.includes(state.selected) ? state.selected : rows[0]);
  };
  byId("tree").addEventListener("click", (event) => {
    const row = event.target.closest(".item");
    if (!row) return;
    const one = nodes.get(row.id.slice(4));
    const twisted = event.target.closest(".twist") || one === state.selected || one.level === 1;
    state.selected = one;
    if (one.shown.length && (twisted || !one.open)) unfold(one, event.target.closest(".twist") || one.open ? !one.open : true);
    select(one);
  });
  byId("tree").addEventListener("focusin", (event) => {
    const one = nodes.get(event.target.id.slice(4));
    if (one && one !== state.selected) select(one, { focus: false });
  });

  let waiting = 0;
  function sought() {
    search(byId("search").value.trim());
    arrange();
    show();
  }
  byId("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(sought, 120);
  });

  function filters() {
    const counts = { create: 0, update: 0, replace: 0, delete: 0, same: 0 };
    for (const machine of review.machines) counts[machine.verb]++;
    for (const verb of Object.keys(counts)) {
      if (!counts[verb] && !["create", "update", "delete"].includes(verb)) continue;
      const button = make("button", "", sign(verb), WORDS[verb]);
      button.type = "button";
      button.dataset.verb = verb;
      button.title = `${counted(counts[verb], "machine")}: ${WORDS[verb]}`;
      button.setAttribute("aria-pressed", state.verbs.has(verb));
      button.addEventListener("click", () => {
        if (!state.verbs.delete(verb)) state.verbs.add(verb);
        button.setAttribute("aria-pressed", state.verbs.has(verb));
        arrange();
      });
      byId("filters").append(button);
    }
  }

  // The choice between light and dark is kept where the viewer lets pages keep something.
  const kept = { get: () => { try { return localStorage.getItem("hardway-scheme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("hardway-scheme", value); } catch { /* then it is not kept */ } } };
  const dark = () => (document.documentElement.dataset.scheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const schemed = () => { byId("scheme").textContent = dark() ? "Light" : "Dark"; };
  if (kept.get() === "dark" || kept.get() === "light") document.documentElement.dataset.scheme = kept.get();
  byId("scheme").addEventListener("click", () => {
    document.documentElement.dataset.scheme = dark() ? "light" : "dark";
    kept.set(document.documentElement.dataset.scheme);
    schemed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schemed);
  byId("view").addEventListener("click", () => {
    state.split = !state.split;
    byId("view").setAttribute("aria-pressed", state.split);
    show();
  });
  narrow.addEventListener("change", show);
  byId("help").addEventListener("click", () => byId("keys").showModal());
  function fromAddress(focus) {
    const one = reach(decodeURIComponent(location.hash.slice(1)));
    if (!one) return false;
    state.selected = one;
    arrange();
    select(one, { focus });
    return true;
  }
  addEventListener("hashchange", () => {
    if (fromAddress(true)) byId("pane").scrollIntoView({ block: "nearest" });
  });
  document.querySelector(".picture").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.getAttribute("href") === location.hash) fromAddress(true);
  });

  addEventListener("beforeprint", () => {
    const files = [];
    for (const root of roots) for (const part of root.kids()) for (const one of part.kids()) files.push([root, one.file]);
    byId("printed").replaceChildren(...files.slice(0, MOST_PRINTED).map(([root, file]) => {
      const view = fileView(file, false);
      view.prepend(make("p", "crumbs empty", root.label));
      return view;
    }), ...(files.length > MOST_PRINTED ? [make("p", "empty", `and ${counted(files.length - MOST_PRINTED, "more file")}, on the page itself`)] : []));
  });
  addEventListener("afterprint", () => byId("printed").replaceChildren());

  // ---------------------------------------------------------------------------------------------

  search("");
  if (review.silent) state.verbs.add("same");
  filters();
  schemed();
  const first = roots.find((one) => one.verb !== "same");
  if (first && roots.filter((one) => one.verb !== "same").length <= 12) {
    for (const one of roots) one.open = one.verb === "update";
    for (const one of roots) if (one.open) for (const kid of one.kids()) kid.open = true;
  }
  if (!fromAddress(false)) {
    state.selected = first || null;
    arrange();
    show();
  }
})();
