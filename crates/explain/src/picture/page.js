'use strict';
(() => {
  const id = (name) => document.getElementById(name);
  const data = JSON.parse(id('data').textContent);
  const chart = id('chart'), scroll = id('scroll'), tip = id('tip'), panel = id('panel'), axis = id('axis'), grid = id('grid');
  const end = Number(chart.dataset.end);
  const make = (tag, text, cls) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (cls) element.className = cls;
    return element;
  };

  // Time, as the rest of the page says it.
  const short = (value, digits) => String(Number(value.toFixed(digits)));
  const words = (s) => {
    if (s === 0) return '0 s';
    if (s < 0.00095) return short(Math.max(s * 1e3, 0.01), 2) + ' ms';
    if (s < 0.00995) return short(s * 1e3, 2) + ' ms';
    if (s < 0.9995) return short(s * 1e3, 1) + ' ms';
    if (s < 99.95) return short(s, 3) + ' s';
    const whole = Math.round(s), two = (n) => String(n).padStart(2, '0');
    if (whole < 120) return whole + ' s';
    if (whole < 3600) return Math.floor(whole / 60) + 'm' + two(whole % 60) + 's';
    return Math.floor(whole / 3600) + 'h' + two(Math.floor(whole / 60) % 60) + 'm';
  };
  const STEPS = [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  const step = (least) => {
    if (least > 20) return STEPS.find((s) => s >= least) || Math.ceil(least / 86400) * 86400;
    const ten = 10 ** Math.floor(Math.log10(Math.max(least, 1e-6)));
    return [1, 2, 5, 10].map((n) => n * ten).find((s) => s >= least * 0.999999);
  };

  // Zoom and pan.
  let zoom = 1;
  const names = () => chart.querySelector('.corner').getBoundingClientRect().width;
  const drawAxis = () => {
    const width = axis.getBoundingClientRect().width;
    if (!width) return;
    const by = step(end / Math.max(1, width / 86)), marks = [];
    // Only what is in sight, and a little more: at a great zoom the whole would be too many.
    const from = Math.max(0, Math.floor((scroll.scrollLeft - 500) / width * end / by));
    const to = Math.min(Math.floor(end / by + 1e-9), Math.ceil((scroll.scrollLeft + scroll.clientWidth + 500) / width * end / by));
    for (let i = from; i <= to; i++) {
      const mark = make('span', words(Number((i * by).toPrecision(12))));
      mark.style.left = i * by / end * 100 + '%';
      if (width * (1 - i * by / end) < 44) mark.className = 'last';
      marks.push(mark);
    }
    const last = marks.length - 1;
    if (last > 0 && marks[last].className && width * by / end < 100) marks.pop();
    axis.replaceChildren(...marks);
    grid.replaceChildren(...marks.map((mark) => {
      const line = make('i');
      line.style.left = mark.style.left;
      return line;
    }));
  };
  const setZoom = (to, x) => {
    to = Math.min(4000, Math.max(1, to));
    const room = scroll.clientWidth - names();
    const at = x === undefined ? room / 2 : Math.max(0, x - names());
    const time = (scroll.scrollLeft + at - 8) / (room * zoom - 32);
    zoom = to;
    chart.style.setProperty('--zoom', zoom);
    scroll.scrollLeft = time * (room * zoom - 32) + 8 - at;
    id('zoom').textContent = (zoom < 10 ? Math.round(zoom * 100) + ' %' : '× ' + Math.round(zoom));
    drawAxis();
  };
  id('in').onclick = () => setZoom(zoom * 1.6);
  id('out').onclick = () => setZoom(zoom / 1.6);
  id('fit').onclick = () => setZoom(1);
  scroll.addEventListener('wheel', (e) => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    setZoom(zoom * Math.exp(-e.deltaY * 0.0035), e.clientX - scroll.getBoundingClientRect().left);
  }, { passive: false });
  scroll.addEventListener('scroll', () => { hideTip(); drawAxis(); });
  addEventListener('resize', drawAxis);
  let drag = null;
  scroll.addEventListener('pointerdown', (e) => {
    if (e.button === 0 && e.pointerType === 'mouse' && !e.target.closest('.name')) {
      drag = { x: e.clientX, y: e.clientY, left: scroll.scrollLeft, top: scroll.scrollTop, moved: false };
    }
  });
  addEventListener('pointermove', (e) => {
    if (!drag) return;
    if (Math.abs(e.clientX - drag.x) + Math.abs(e.clientY - drag.y) > 4) drag.moved = true;
    if (!drag.moved) return;
    scroll.scrollLeft = drag.left - (e.clientX - drag.x);
    scroll.scrollTop = drag.top - (e.clientY - drag.y);
  });
  let dragged = false;
  addEventListener('pointerup', () => { dragged = !!drag && drag.moved; drag = null; });

  // What can be looked at: row by row, in the order of time.
  const rows = [...chart.querySelectorAll('.row')].map((row) => {
    const cells = [...row.querySelectorAll('[role="gridcell"]')];
    cells.sort((a, b) => a.dataset.f - b.dataset.f);
    return [row.querySelector('.name'), ...cells];
  });
  const place = new Map();
  rows.forEach((cells, r) => cells.forEach((cell, c) => place.set(cell, [r, c])));
  let current = rows.length ? rows[0][0] : null;
  if (current) current.tabIndex = 0;
  const go = (cell) => {
    if (!cell) return;
    if (current) current.tabIndex = -1;
    current = cell;
    cell.tabIndex = 0;
    cell.focus({ preventScroll: true });
    const box = cell.getBoundingClientRect(), view = scroll.getBoundingClientRect(), left = view.left + names();
    if (!cell.classList.contains('name')) {
      if (box.left < left) scroll.scrollLeft -= left - box.left + 20;
      else if (box.right > view.right) scroll.scrollLeft += Math.min(box.right - view.right + 20, box.left - left);
    }
    if (box.top < view.top + 30) scroll.scrollTop -= view.top + 30 - box.top;
    else if (box.bottom > view.bottom) scroll.scrollTop += box.bottom - view.bottom + 8;
    showTip(cell);
  };
  // The cell of another row that is nearest in time.
  const beside = (cell, r) => {
    const cells = rows[r];
    if (!cells) return null;
    if (cell.classList.contains('name')) return cells[0];
    const at = Number(cell.dataset.f);
    return cells.slice(1).reduce((best, c) => {
      const far = (x) => Math.max(0, Number(x.dataset.f) - at, at - Number(x.dataset.t));
      return best === null || far(c) < far(best) ? c : best;
    }, null) || cells[0];
  };
  const KEYS = {
    ArrowRight: ([r, c]) => rows[r][c + 1],
    ArrowLeft: ([r, c]) => rows[r][c - 1],
    ArrowDown: ([r], cell) => beside(cell, r + 1),
    ArrowUp: ([r], cell) => beside(cell, r - 1),
    Home: ([r], cell, e) => rows[e.ctrlKey ? 0 : r][0],
    End: ([r], cell, e) => rows[e.ctrlKey ? rows.length - 1 : r].at(-1),
    PageDown: ([r], cell) => beside(cell, Math.min(rows.length - 1, r + 10)),
    PageUp: ([r], cell) => beside(cell, Math.max(0, r - 10)),
  };
  chart.addEventListener('keydown', (e) => {
    const at = place.get(e.target);
    if (!at || e.altKey || e.metaKey) return;
    if (KEYS[e.key]) {
      e.preventDefault();
      go(KEYS[e.key](at, e.target, e));
    } else if (e.key === 'Enter' || e.key === ' ') {
      e.preventDefault();
      open(e.target);
    }
  });
  addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === 'Escape') { hideTip(); close(); }
    else if (e.key === '+' || e.key === '=') setZoom(zoom * 1.6);
    else if (e.key === '-') setZoom(zoom / 1.6);
    else if (e.key === '0') setZoom(1);
    else return;
    e.preventDefault();
  });

  // A word or two beside the pointer, or beside what has the focus.
  const cellOf = (e) => e.target instanceof Element ? e.target.closest('[role="gridcell"], .name') : null;
  const hideTip = () => { tip.hidden = true; };
  const showTip = (cell, x, y) => {
    const box = cell.getBoundingClientRect();
    const text = cell.getAttribute('aria-label');
    tip.textContent = text.length > 260 ? text.slice(0, 259) + '…' : text;
    tip.hidden = false;
    const own = tip.getBoundingClientRect();
    const left = x === undefined ? Math.max(box.left, 8) : x + 12;
    let top = y === undefined ? box.bottom + 8 : y + 16;
    if (top + own.height > innerHeight - 4) top = (y === undefined ? box.top : y) - own.height - 8;
    tip.style.left = Math.max(4, Math.min(left, innerWidth - own.width - 8)) + 'px';
    tip.style.top = Math.max(4, top) + 'px';
  };
  chart.addEventListener('pointermove', (e) => {
    const cell = cellOf(e);
    if (cell && !(drag && drag.moved)) showTip(cell, e.clientX, e.clientY); else hideTip();
  });
  chart.addEventListener('pointerleave', hideTip);
  chart.addEventListener('focusout', hideTip);

  // All that is known of a lane.
  let opener = null;
  const message = (index) => {
    const text = data.messages[index];
    if (text.length <= 300) return make('span', text, 'message');
    const more = make('details');
    more.append(make('summary', text.slice(0, 200) + '…'), make('pre', text));
    return more;
  };
  const open = (cell) => {
    const row = cell.closest('.row'), lane = data.rows[Number(row.dataset.row)];
    const isName = cell.classList.contains('name');
    const from = Number(cell.dataset.f), to = Number(cell.dataset.t);
    if (opener) opener.removeAttribute('aria-selected');
    opener = cell;
    cell.setAttribute('aria-selected', 'true');
    const shut = make('button', '×', 'close');
    shut.type = 'button';
    shut.setAttribute('aria-label', 'Close');
    shut.onclick = close;
    const title = make('h2', lane.n);
    title.id = 'panel-title';
    const parts = [shut, title, make('p', [lane.k, lane.i].filter(Boolean).join(' · '))];
    if (isName) parts.push(...lane.a.map((text) => make('p', text, 'now')));
    else parts.push(make('p', cell.getAttribute('aria-label'), 'now'));
    const list = make('ol');
    let run = null, first = null;
    for (const [at, when, of, text, index] of lane.m) {
      // Pulls belong to no run in particular.
      if (of !== null && of > (run || 0)) list.append(make('li', 'run ' + of, 'run'));
      if (of !== null) run = Math.max(of, run || 0);
      const item = make('li'), what = make('span', text);
      if (!isName && at >= from - 1e-7 && at <= to + 1e-7) { item.className = 'on'; first = first || item; }
      if (index !== null) what.append(make('span', ': '), message(index));
      item.append(make('time', when), what);
      list.append(item);
    }
    parts.push(list);
    panel.replaceChildren(...parts);
    panel.hidden = false;
    drawAxis();
    panel.scrollTop = 0;
    hideTip();
    if (first && first.offsetTop > panel.clientHeight - 80) panel.scrollTop = first.offsetTop - 120;
    shut.focus({ preventScroll: true });
  };
  const close = () => {
    if (panel.hidden) return;
    panel.hidden = true;
    drawAxis();
    if (opener) {
      opener.removeAttribute('aria-selected');
      go(opener);
      hideTip();
    }
    opener = null;
  };
  chart.addEventListener('click', (e) => {
    const cell = cellOf(e);
    if (dragged || !cell) return;
    if (current) current.tabIndex = -1;
    current = cell;
    cell.tabIndex = 0;
    open(cell);
  });
  drawAxis();
})();
