// The front end of the explorer, the live sweep and the live training. The kernel reads and draws; this module places
// what was drawn, holds the controls, and draws by itself only what follows the pointer. No rule is computed here.
const NS = 'http://www.w3.org/2000/svg', LAYERS = ['unread', 'raw', 'trend', 'band', 'rate', 'names']
const LATE = 1500, NUDGE = 12      // milliseconds
const CSS = `
.lrx{max-width:1600px;line-height:1.4;font-family:system-ui,sans-serif;font-size:14px;container-type:inline-size;
color:var(--jp-content-font-color1,var(--vscode-foreground,inherit))}
.lrx *{box-sizing:border-box}.lrx [hidden]{display:none!important}
.lrx-picture{position:relative;overflow:hidden}.lrx-picture svg{display:block;width:100%;height:auto}
.lrx-picture .lrx-over{position:absolute;inset:0;height:100%;touch-action:pan-y;cursor:crosshair}
.lrx-over text{font-size:11.5px;fill:currentColor;pointer-events:none;user-select:none}
.lrx-over .lrx-ew{cursor:ew-resize}.lrx-over .lrx-ns{cursor:ns-resize;touch-action:none}
.lrx-rate{font-size:1.9em}.lrx-answer{min-height:5.6em}
.lrx[data-stale] :is(.lrx-interval,.lrx-note,[data-layer=band]){opacity:.4}
.lrx-interval{margin-left:.4em}
.lrx-row{display:flex;flex-wrap:wrap;gap:.3em .5em;align-items:center;margin:.45em 0}
.lrx-controls{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:.25em 1.6em}
.lrx-control{display:grid;grid-template-columns:9.6em minmax(60px,1fr) 5.4em;gap:.5em;
align-items:center;min-height:26px}
.lrx input[type=range]{width:100%;min-width:0;margin:0;height:24px}
.lrx :is(button,select,input[type=number],input[type=text]){font:inherit;color:inherit;
background:transparent;min-width:0;border:1px solid #7f7f7f;border-radius:4px;padding:.12em .5em;min-height:26px}
.lrx button{cursor:pointer}.lrx button:disabled{opacity:.5;cursor:default}
.lrx .lrx-main{font-weight:600;border-width:2px}
.lrx :focus-visible{outline:2px solid #4c8ed9;outline-offset:2px}
.lrx .lrx-wrap{overflow-x:auto}.lrx table{border-collapse:collapse;font-size:.93em;margin:.4em 0;color:inherit}
.lrx :is(td,th){padding:.15em .8em .15em 0;text-align:left;vertical-align:baseline;border:0;
background:none;white-space:nowrap}
.lrx td:last-child{white-space:normal;min-width:16em}.lrx td label{cursor:pointer;display:inline-block;min-height:24px}
.lrx tr[data-on] td{font-weight:600}.lrx-swatch{display:inline-block;width:1.1em;height:.28em;margin:0 .4em .2em}
.lrx progress{width:min(26em,60%);height:1em}
@container (max-width:420px){.lrx-control{grid-template-columns:9.3em 1fr 4.4em;gap:.3em}}`

const make = (tag, props = {}, ...inside) => {
  const e = document.createElement(tag)
  for (const [k, v] of Object.entries(props)) /-|role|for/.test(k) ? e.setAttribute(k, v) : e[k] = v
  e.append(...inside.filter(x => x != null))
  return e
}
const draw = (tag, props, to) => {
  const e = document.createElementNS(NS, tag)
  for (const k in props) e.setAttribute(k, props[k])
  to.append(e)
  return e
}
const clamp = (x, low, high) => Math.min(Math.max(x, low), high)
// JupyterLab keeps Enter from a field, and with it the change that it would bring
const commit = (field, f) => {
  field.addEventListener('change', f)
  field.addEventListener('keydown', e => { if (e.key === 'Enter') f() })
}
const power = v => v == null ? '' : v.toExponential(1).replace(/e([-+])(\d)$/, 'e$10$2')
const number = v => v == null ? '' : +v.toPrecision(5) + ''

// A constructed sheet needs no <style>, so a strict content policy lets it be; the root may be a shadow root
function dress(el) {
  const root = el.getRootNode()
  if (!root.adoptedStyleSheets || root.adoptedStyleSheets.some(s => s.lrx)) return
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(CSS)
  sheet.lrx = true
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet]
}

function hide(uid) {      // the picture for files without a kernel stands before the widget, and is not shown beside it
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(`.${uid}{display:none}`)
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet]
  return () => { document.adoptedStyleSheets = document.adoptedStyleSheets.filter(s => s !== sheet) }
}

// ---- one question at a time: what changes meanwhile is asked once, when the answer is there
// Jupyter's server holds a small message back until the one before it is acknowledged (Nagle's algorithm), and a
// browser puts that off by 40 ms unless it has something to send: an empty message follows a question that is open.

function asker(model, waiting) {
  let n = 0, busy = 0, next = null, late = 0, nudge = 0
  const send = question => {
    busy = n = Math.max(n, model.get('reading').n || 0) + 1
    model.set('asked', {...question, n})
    model.save_changes()
    nudge = setTimeout(() => model.send?.({}), NUDGE)
    late = setTimeout(() => waiting(true), LATE)
  }
  return {
    get busy() { return busy },
    ask(question) {
      if (!busy) return send(question)
      next = {...next, ...question, do: [...next?.do || [], ...question.do || []]}
    },
    answered(r) {
      if (!busy || r.n < busy) return
      clearTimeout(late)
      clearTimeout(nudge)
      waiting(false)
      busy = 0
      if (next) { const question = next; next = null; send(question) }
    },
    stop() { clearTimeout(late); clearTimeout(nudge) },
  }
}

// ---- where things are in the picture

function geometry(frame) {
  const scale = log => log ? Math.log10 : x => x, back = log => log ? x => 10**x : x => x
  const [f, g] = [scale(frame.log), scale(frame.logLoss)], [a, b] = frame.lrs.map(f), [c, d] = frame.losses.map(g)
  const wide = frame.right - frame.left, tall = frame.bottom - frame.top
  return {...frame,
    X: lr => frame.left + wide*(f(lr) - a)/(b - a), lrAt: x => back(frame.log)(a + (b - a)*(x - frame.left)/wide),
    Y: loss => frame.top + tall*(1 - (g(loss) - c)/(d - c)),
    lossAt: y => back(frame.logLoss)(c + (d - c)*(1 - (y - frame.top)/tall)),
    in: (x, y) => x >= frame.left && x <= frame.right && y >= frame.top && y <= frame.bottom}
}

// Lines as they were drawn, [x, y] in pixels: nothing more needs to be sent for the crosshair
function points(paths) {
  const out = []
  for (const p of paths) {
    let x = 0, y = 0
    for (const [, c, a, b] of (p.getAttribute('d') || '').matchAll(/([Ml])(-?\d+) ?(-?\d+)/g)) {
      if (c === 'M') x = y = 0
      x += +a; y += +b
      out.push([x/10, y/10])
    }
  }
  return out.sort((a, b) => a[0] - b[0])
}

function nearest(list, x, at = v => v) {      // index of the element of a sorted list that lies nearest to x
  let low = 0, high = list.length - 1
  while (low < high) { const m = (low + high) >> 1; if (at(list[m]) < x) low = m + 1; else high = m }
  return low && x - at(list[low - 1]) < at(list[low]) - x ? low - 1 : low
}

// ---- controls

function slider(control, name, moved) {      // {row, show(value)}: a range and a number with one value
  const id = `lrx-${Math.random().toString(36).slice(2)}`, stops = control.stops
  const [low, high] = stops ? [0, stops.length - 1] : [control.min, control.max]
  const range = make('input', {type: 'range', id, title: control.tip, min: low, max: high,
    step: stops ? 1 : control.whole ? 1 : control.step})
  const field = make('input', {type: 'number', 'aria-label': `${name}, as a number`, title: control.tip,
    min: control.min, step: control.whole ? 1 : stops ? 'any' : control.step,
    placeholder: stops?.includes(null) ? 'never' : ''})
  if (control.max != null) field.max = control.max
  const open = stops?.includes(null), scale = v => v == null ? Infinity : stops.some(t => t === 0) ? v : Math.log(v)
  const near = v => v == null ? stops.length - 1
    : stops.reduce((b, t, i) => Math.abs(scale(t) - scale(v)) < Math.abs(scale(stops[b]) - scale(v)) ? i : b, 0)
  const fits = v => v >= control.min && (control.max == null || v <= control.max)
  const tidy = v => stops ? v : +clamp(v, control.min, control.max).toFixed(control.whole ? 0 : 6)
  let value = null
  const show = (v, from) => {
    value = v
    if (from !== range) range.value = stops ? near(v) : v
    if (from !== field) field.value = v == null ? '' : number(v)
    range.setAttribute('aria-valuetext', v == null ? 'never' : number(v))
  }
  const set = (v, from) => { show(v, from); moved(v) }
  range.addEventListener('input', () => set(stops ? stops[+range.value] : +range.value, range))
  range.addEventListener('keydown', e => {      // an arrow takes a step that can be seen, however many points there are
    const steps = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10}[e.key]
    if (!steps || stops || e.ctrlKey || e.metaKey || e.altKey) return
    e.preventDefault()
    set(tidy(value + steps*control.step))
  })
  field.addEventListener('input', () => {
    const v = field.valueAsNumber
    if (open && field.value === '' && !field.validity.badInput) set(null, field)
    else if (fits(v) && !(control.whole && v % 1)) set(v, field)
  })
  commit(field, () => {
    const v = field.valueAsNumber
    if (Number.isNaN(v) || fits(v) && !(control.whole && v % 1)) return show(value)
    set(clamp(control.whole ? Math.round(v) : v, control.min, control.max ?? Infinity))
  })
  const label = make('label', {for: id, textContent: name})
  return {show, field, row: make('div', {className: 'lrx-control'}, label, range, field)}
}

const heads = (...names) => make('thead', {}, make('tr', {}, ...names.map(t => make('th', {scope: 'col', textContent: t}))))

function rulesTable(about, choose) {      // the rules with what each reads: the legend of the names above the picture
  const group = `lrx-${Math.random().toString(36).slice(2)}`, body = make('tbody'), rows = {}
  for (const [name, tip] of about.rules) {
    const radio = make('input', {type: 'radio', name: group, title: tip})
    const [rate, span, why] = [make('td'), make('td', {className: 'lrx-interval'}), make('td')]
    const row = make('tr', {}, make('td', {}, make('label', {title: tip}, radio, ` ${name}`)), rate, span, why)
    radio.addEventListener('change', () => choose(name))
    rows[name] = {row, radio, rate, span, why, tip}
    body.append(row)
  }
  const table = make('table', {className: 'lrx-rules'}, heads('rule', 'rate', 'interval', 'what it reads'), body)
  return {box: make('div', {className: 'lrx-wrap'}, table), show(found, chosen) {
    for (const name in rows) {
      const r = rows[name], f = found[name] || {}
      r.radio.checked = name === chosen
      r.row.toggleAttribute('data-on', name === chosen)
      r.rate.textContent = f.rate || '–'
      r.span.textContent = f.interval || ''
      r.why.textContent = f.why || r.tip
    }
  }}
}

function runsTable(about, toggle) {      // the runs, each of which can be put aside
  const body = make('tbody'), rows = about.runs.map(([name, colour], i) => {
    const box = make('input', {type: 'checkbox'}), rate = make('td'), swatch = make('span', {className: 'lrx-swatch'})
    swatch.style.background = colour
    box.addEventListener('change', () => toggle(name, !box.checked))
    const row = make('tr', {}, make('td', {}, make('label', {}, box, swatch, name)), rate)
    body.append(row)
    return {name, box, rate, row}
  })
  const table = make('table', {className: 'lrx-runs'}, heads('run', 'rate'), body)
  return {box: make('div', {className: 'lrx-wrap'}, table), show(found, hidden, at) {
    for (const [i, r] of rows.entries()) {
      r.box.checked = !hidden.includes(r.name)
      r.rate.textContent = found[r.name] || ''
      r.row.toggleAttribute('data-on', at === r.name)
    }
  }}
}

// ---- to take away

async function copy(text, said) {
  try { await navigator.clipboard.writeText(text) }
  catch {
    const area = make('textarea', {value: text})
    document.body.append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
  said(`copied ${text}`)
}

function save(name, blob) {
  const link = make('a', {href: URL.createObjectURL(blob), download: name})
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 1e4)
}

function standalone(svg) {      // the picture as a file of its own, in the colours that it has on the page
  const twin = svg.cloneNode(true), style = getComputedStyle(svg)
  let behind = svg
  const clear = e => /^rgba\(.*, 0\)$|^transparent$/.test(getComputedStyle(e).backgroundColor)
  while (behind && clear(behind)) behind = behind.parentElement
  const back = behind ? getComputedStyle(behind).backgroundColor : 'white'
  twin.setAttribute('color', style.color)
  const [, , w, h] = svg.getAttribute('viewBox').split(' ')
  const rect = document.createElementNS(NS, 'rect')
  for (const [k, v] of Object.entries({width: w, height: h, fill: back, stroke: 'none'})) rect.setAttribute(k, v)
  twin.prepend(rect)
  return {text: new XMLSerializer().serializeToString(twin), w: +w, h: +h}
}

function savePng(svg) {
  const {text, w, h} = standalone(svg), image = new Image(), canvas = make('canvas', {width: 2*w, height: 2*h})
  image.onload = () => {
    canvas.getContext('2d').drawImage(image, 0, 0, 2*w, 2*h)
    canvas.toBlob(blob => save('curve.png', blob))
  }
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`
}

// ---- the picture, and what a hand does on it

function stage(model, moved) {
  const place = make('div'), box = make('div', {className: 'lrx-picture'}, place)
  const over = draw('svg', {class: 'lrx-over', 'aria-hidden': 'true', width: '100%', height: '100%'}, box)
  const line = (props = {}) => draw('path', {fill: 'none', stroke: 'currentColor', ...props}, over)
  const unseen = {'stroke-width': 11, 'stroke-opacity': .001, 'pointer-events': 'stroke'}
  const grip = (kind, name) => line({class: `lrx-${kind}`, 'data-grip': name, ...unseen})
  const mark = {cross: line({'stroke-opacity': .6}), smooth: line({'stroke-width': 1.5}),
    brush: draw('rect', {'fill-opacity': .15, fill: 'currentColor'}, over),
    hand: line({stroke: '#bf6a12', 'stroke-width': 2.2}), limit: line({stroke: '#e8833a', 'stroke-dasharray': '5 4'}),
    first: line({'stroke-dasharray': '2 3'}), last: line({'stroke-dasharray': '2 3'})}
  const words = [0, 1, 2].map(() => draw('text', {}, over)), label = draw('text', {'text-anchor': 'start'}, over)
  const grips = {diverge_threshold: grip('ns', 'diverge_threshold')}
  for (const name of ['skip_start', 'skip_end', 'smooth']) grips[name] = grip('ew', name)
  let shown = {}, g = null, trend = null, lines = null, want = {}, r = {}, about = {}
  let held = null, down = null, before = null, free = () => {}

  function show() {      // place the layers that changed
    const shell = model.get('shell')
    if (shown.shell !== shell) { place.innerHTML = shell; shown = {shell} }
    for (const k of LAYERS) {
      const at = place.querySelector(`[data-layer=${k}]`)
      if (at && shown[k] !== model.get(k)) at.innerHTML = shown[k] = model.get(k)
    }
    const svg = place.querySelector('svg')
    if (svg && r.label) svg.setAttribute('aria-label', r.label)
    if (svg) over.setAttribute('viewBox', svg.getAttribute('viewBox'))
    trend = lines = null
  }

  function marks() {      // what can be dragged, where the hand has it now
    if (!g) return
    const upright = lr => lr == null ? '' : `M${clamp(g.X(lr), g.left, g.right).toFixed(1)} ${g.top}V${g.bottom}`
    const s = want.settings || {}, T = s.diverge_threshold
    const inSight = want.hand != null && want.hand >= g.lrs[0] && want.hand <= g.lrs[1]
    mark.hand.setAttribute('d', inSight ? upright(want.hand) : '')
    if (!about.points || !r.limit) return
    const lrs = about.points.lrs, last = lrs.length - 1 - s.skip_end
    const at = i => upright(lrs[clamp(i, 0, lrs.length - 1)])
    grips.skip_start.setAttribute('d', at(s.skip_start))
    grips.skip_end.setAttribute('d', at(last))
    mark.first.setAttribute('d', held === 'skip_start' ? at(s.skip_start) : '')
    mark.last.setAttribute('d', held === 'skip_end' ? at(last) : '')
    const y = T == null ? g.top : clamp(g.Y(r.limit.best + (T - 1)*r.limit.scale), g.top, g.bottom)
    grips.diverge_threshold.setAttribute('d', `M${g.left} ${y}H${g.right}`)
    mark.limit.setAttribute('d', held === 'diverge_threshold' ? `M${g.left} ${y}H${g.right}` : '')
    if (r.smooth == null) return
    const x = g.left + 10, wide = clamp((want.smooth ?? r.smooth)*r.perDecade, 2, g.right - x), foot = g.bottom - 12
    mark.smooth.setAttribute('d', `M${x} ${foot - 4}v8M${x + wide} ${foot - 4}v8M${x} ${foot}h${wide}`)
    grips.smooth.setAttribute('d', `M${x + wide} ${foot - 10}v20`)
    label.setAttribute('x', x + wide + 8); label.setAttribute('y', foot + 4); label.textContent = 'smoothing'
  }

  function say(x, y, ...said) {      // words beside the pointer
    const right = x > (g.left + g.right)/2, top = clamp(y - 14*said.length, g.top + 12, g.bottom)
    words.forEach((w, i) => {
      w.textContent = said[i] || ''
      const place = {x: x + (right ? -9 : 9), y: top + 14*i, 'text-anchor': right ? 'end' : 'start'}
      for (const k in place) w.setAttribute(k, place[k])
    })
  }
  function leave() { mark.cross.setAttribute('d', ''); words.forEach(w => { w.textContent = '' }); free(null) }

  function overNames(x) {      // above the frame: the rule whose rate lies nearest
    const all = Object.entries(r.rules || {}).filter(([, f]) => f.lr).sort((a, b) => a[1].lr - b[1].lr)
    if (!all.length) return leave()
    const [name, f] = all[nearest(all, x, e => clamp(g.X(e[1].lr), g.left, g.right))]
    mark.cross.setAttribute('d', `M${clamp(g.X(f.lr), g.left, g.right)} ${g.top}V${g.bottom}`)
    const why = f.why || ''
    say(clamp(g.X(f.lr), g.left, g.right), g.top + 50, `${name}: ${f.rate}`, why.slice(0, 60), why.slice(60, 120))
  }
  function overCurve(x, y) {
    const {lrs, losses} = about.points, i = nearest(lrs, g.lrAt(x)), px = g.X(lrs[i])
    trend ||= points(place.querySelectorAll('path.trend,path.unread'))
    const raw = losses[i], inside = trend.length && px <= trend.at(-1)[0] + 1
    const smooth = inside ? trend[nearest(trend, px, p => p[0])][1] : null
    mark.cross.setAttribute('d', `M${px} ${g.top}V${g.bottom}` + (smooth == null ? '' : `M${px - 6} ${smooth}h12`))
    const smoothed = smooth == null ? '' : `, smoothed ${g.lossAt(smooth).toPrecision(4)}`
    say(px, y, `step ${i + 1}: rate ${power(lrs[i])}`, `loss ${raw == null ? 'not finite' : number(raw)}${smoothed}`)
  }
  function overRuns(x, y) {      // the run whose line lies nearest
    const drawn = e => [e, points(e.querySelectorAll('path.trend,path.unread'))]
    lines ||= [...place.querySelectorAll('.of-run')].map(drawn).filter(l => l[1].length)
    const far = ([, p]) => { const q = p[nearest(p, x, v => v[0])]; return Math.hypot(q[0] - x, q[1] - y) }
    const best = lines.reduce((b, l) => !b || far(l) < far(b) ? l : b, null), near = best && far(best) < 25
    mark.cross.setAttribute('d', `M${x} ${g.top}V${g.bottom}`)
    const name = near ? (r.drawn || [])[+best[0].dataset.run] : null
    say(x, y, `rate ${power(g.lrAt(x))}, loss ${g.lossAt(y).toPrecision(3)}`, name && `${name}: ${r.runs[name]}`)
    free(name)
    return name
  }

  const at = e => {
    const b = over.getBoundingClientRect(), k = g.width/b.width
    return [(e.clientX - b.left)*k, (e.clientY - b.top)*k]
  }
  const step = x => nearest(about.points.lrs, g.lrAt(x))
  function drag(x, y) {
    const last = about.points && about.points.lrs.length - 1
    if (held === 'skip_start') moved({settings: {skip_start: step(x)}})
    else if (held === 'skip_end') moved({settings: {skip_end: last - step(x)}})
    else if (held === 'diverge_threshold') {
      const T = y <= g.top ? null : 1 + (g.lossAt(Math.min(y, g.bottom)) - r.limit.best)/r.limit.scale
      moved({settings: {diverge_threshold: T == null ? null : Math.max(1.01, +T.toPrecision(3))}})
    } else if (held === 'smooth') moved({smooth: Math.max(0, x - g.left - 10)/r.perDecade})
    else if (held === 'hand') moved({hand: g.lrAt(clamp(x, g.left, g.right))})
    else if (held === 'x') brush(Math.min(down[0], x), g.top, Math.abs(x - down[0]), g.bottom - g.top)
    else if (held === 'y') brush(g.left, Math.min(down[1], y), g.right - g.left, Math.abs(y - down[1]))
  }
  function brush(x, y, width, height) {
    for (const [k, v] of Object.entries({x, y, width, height})) mark.brush.setAttribute(k, v)
  }
  function zoomed(x, y) {
    const ends = (a, b, f) => [f(a), f(b)].sort((u, v) => u - v)
    const c = v => clamp(v, g.left, g.right), d = v => clamp(v, g.top, g.bottom)
    if (held === 'x' && Math.abs(x - down[0]) > 8) moved({view: {...want.view, lrs: ends(c(x), c(down[0]), g.lrAt)}})
    const tall = held === 'y' && Math.abs(y - down[1]) > 8
    if (tall) moved({view: {...want.view, losses: ends(d(y), d(down[1]), g.lossAt)}})
  }

  over.addEventListener('pointerdown', e => {
    if (!g || e.button) return
    down = at(e)
    const [x, y] = down
    const axis = y > g.bottom && x >= g.left ? 'x' : x < g.left && y > g.top ? 'y' : null
    held = e.target.dataset?.grip || (about.recorded ? null : g.in(x, y) ? 'hand?' : axis)
    const again = before && e.timeStamp - before.at < 450
    if (held === 'hand?' && !again) before = {at: e.timeStamp, hand: want.hand ?? null}
    if (held) over.setPointerCapture(e.pointerId)
  })
  over.addEventListener('pointermove', e => {
    if (!g) return
    const [x, y] = at(e)
    if (held === 'hand?' && Math.abs(x - down[0]) > 3) held = 'hand'
    if (held && held !== 'hand?') { leave(); return drag(x, y) }
    if (y < g.top && x >= g.left && x <= g.right) return overNames(x)
    if (!g.in(x, y)) return leave()
    if (about.points) overCurve(x, y)
    else if (about.runs) overRuns(x, y)
  })
  over.addEventListener('pointerup', e => {
    if (!held) return
    const [x, y] = at(e), run = held === 'hand?' && about.runs && !e.shiftKey ? overRuns(x, y) : null
    if (run) moved({hidden: [...want.hidden || [], run]})
    else if (held === 'hand?') moved({hand: g.lrAt(x)})
    else if (held === 'hand') moved({hand: g.lrAt(clamp(x, g.left, g.right))})
    else zoomed(x, y)
    held = down = null
    brush(0, 0, 0, 0)
    marks()
  })
  over.addEventListener('pointercancel', () => { held = down = null; brush(0, 0, 0, 0); marks() })
  over.addEventListener('pointerleave', leave)
  over.addEventListener('dblclick', e => {
    const chosen = before && e.timeStamp - before.at < 900      // by the first of the two clicks
    moved(chosen ? {view: null, hand: before.hand} : {view: null})
  })
  over.addEventListener('wheel', e => {      // on an axis only: over the curve, the page scrolls
    if (!g) return
    const [x, y] = at(e), k = Math.exp(clamp(e.deltaY, -60, 60)*.005)
    const span = (from, low, high, f) => [low, high].map(v => f(from + (v - from)*k)).sort((u, v) => u - v)
    if (y > g.bottom && x > g.left) moved({view: {...want.view, lrs: span(x, g.left, g.right, g.lrAt)}})
    else if (x < g.left && y > g.top) moved({view: {...want.view, losses: span(y, g.bottom, g.top, g.lossAt)}})
    else return
    e.preventDefault()
  }, {passive: false})

  return {box, svg: () => place.querySelector('svg'), held: () => held, onRun: f => { free = f },
    marks: w => { want = w; marks() },
    show(reading, told) { r = reading; about = told; g = r.frame ? geometry(r.frame) : null; show() }}
}

// ---- the panels

function explorer(model, el) {
  const about = model.get('about'), said = make('span', {role: 'status'})
  const gate = asker(model, late => { said.textContent = late ? 'waiting for the kernel' : '' })
  const typed = field => panel.getRootNode().activeElement === field ? field : null
  const known = r => ({settings: {...r.settings}, hand: r.hand, hidden: r.hidden || [], view: r.view})
  let want = known(model.get('reading'))
  function moved(change) {
    want = {...want, smooth: undefined, ...change, settings: {...want.settings, ...change.settings}}
    for (const k in change.settings || {}) controls[k]?.show(change.settings[k], typed(controls[k].field))
    panel.dataset.stale = ''
    picture.marks(want)
    const {settings, hand, hidden, view, smooth} = want
    gate.ask({settings, hand: hand ?? null, hidden, view: view ?? null, ...smooth === undefined ? {} : {smooth}})
  }
  const act = (...names) => gate.ask({do: names}), picture = stage(model, moved)
  // the answer
  const rate = make('b', {className: 'lrx-rate'}), span = make('span', {className: 'lrx-interval'})
  const why = make('div', {className: 'lrx-why'})
  const own = make('div', {className: 'lrx-own'}), notes = make('div'), use = make('span', {className: 'lrx-in-use'})
  const heard = make('div', {role: 'status', 'aria-live': 'polite'}, rate, span)
  const answer = make('div', {className: 'lrx-answer'}, heard, why, own, notes)
  // the buttons
  const buttons = {}
  const button = (text, title, onclick) => buttons[text] = make('button', {type: 'button', textContent: text, title, onclick})
  const away = ['Copy or save …', 'Copy the rate', 'Copy the line of code', 'Save PNG', 'Save SVG', 'Save CSV']
  const taken = make('select', {title: 'Copy or save', 'aria-label': 'Copy or save'},
    ...away.map(textContent => make('option', {textContent})))
  taken.addEventListener('change', () => {
    const r = model.get('reading'), i = taken.selectedIndex, told = t => { said.textContent = t }
    taken.selectedIndex = 0
    if (i === 1) copy(r.rate || '', told)
    if (i === 2) copy(r.line || '', told)
    if (i === 3) savePng(picture.svg())
    if (i === 4) save('curve.svg', new Blob([standalone(picture.svg()).text], {type: 'image/svg+xml'}))
    if (i === 5) act('csv')
  })
  const byHand = make('input', {type: 'text', inputMode: 'decimal', size: 9, 'aria-label': 'a rate of your own',
    title: 'Type a rate of your own, or click on the picture', placeholder: 'your own rate'})
  commit(byHand, () => {
    const v = +byHand.value
    moved({hand: byHand.value.trim() && v > 0 && Number.isFinite(v) ? v : null})
  })
  const log = make('input', {type: 'checkbox'})
  log.addEventListener('change', () => moved({view: {...want.view, logLoss: log.checked}}))
  const logLabel = make('label', {}, log, ' log loss')
  button('Use this rate', 'Hand this rate on', () => act('use')).className = 'lrx-main'
  button('Reset', 'Bring the controls back to where they began; what is in use stays', () => act('reset'))
  button('Undo', 'Take the last change back', () => act('undo'))
  button('Redo', 'Make the change again', () => act('redo'))
  button('Zoom in', 'Look closer at the rate', () => act('closer'))
  button('Whole curve', 'Show the whole curve again', () => moved({view: null}))
  const bar = make('div', {className: 'lrx-row'}, ...Object.values(buttons), byHand, logLabel, taken, said)
  // the controls and the tables
  const controls = {}
  for (const [name, control] of Object.entries(about.controls))
    controls[name] = slider(control, name, v => moved({settings: {[name]: v}}))
  const rules = rulesTable(about, rule => moved({settings: {rule}, hand: null}))
  const others = name => want.hidden.filter(n => n !== name)
  const runs = about.runs && runsTable(about, (name, gone) => moved({hidden: others(name).concat(gone ? [name] : [])}))
  const grid = make('div', {className: 'lrx-controls'}, ...Object.values(controls).map(c => c.row))
  const panel = make('div', {className: 'lrx'}, answer, picture.box, bar, use, grid, rules.box, runs?.box)
  // JupyterLab takes arrow keys for itself unless each control says no; on a box around them it is looked at too late
  for (const e of panel.querySelectorAll('input,select,button')) e.setAttribute('data-lm-suppress-shortcuts', 'true')
  if (about.recorded) for (const e of [byHand, logLabel, taken, use]) e.remove()

  function show() {
    const r = model.get('reading'), given = model.get('given')
    rate.textContent = r.words
    span.textContent = r.interval || ''
    why.textContent = r.why
    own.textContent = r.compared || ''
    notes.replaceChildren(...(r.notes || []).map(t => make('div', {className: 'lrx-note', textContent: `⚠ ${t}`})))
    use.textContent = r.inUse || ''
    picture.show(r, about)
    gate.answered(r)
    if (!gate.busy && !picture.held()) {      // another view, or the kernel, may have moved them
      want = known(r)
      for (const k in controls) controls[k].show(want.settings[k], controls[k].field.value && typed(controls[k].field))
      panel.toggleAttribute('data-stale', !r.rest)
    }
    picture.marks(want)
    rules.show(r.rules || {}, want.settings.rule)      // what the hand chose meanwhile stays chosen
    runs?.show(r.runs || {}, want.hidden)
    if (!typed(byHand)) byHand.value = want.hand == null ? '' : power(want.hand)
    for (const name in buttons) {
      buttons[name].disabled = r.can[name] === false
      buttons[name].hidden = about.recorded && !(name in r.can)
    }
    log.checked = !!want.view?.logLoss; logLabel.hidden = !r.canLog
    if (r.said) said.textContent = r.said
    if (given?.n && given.n !== panel.given) {
      if (panel.given !== undefined) save(given.name, new Blob([given.text], {type: 'text/csv'}))
    }
    panel.given = given?.n || 0
    panel.dataset.n = r.n; panel.dataset.rest = !!r.rest
  }
  picture.onRun(name => runs?.show(model.get('reading').runs || {}, want.hidden || [], name))
  el.append(panel)
  return {panel, picture, show, gate}
}

// A sweep or a training on its way: bar, words, picture, and a Stop where it is heard
function watcher(model, el) {
  const bar = make('progress', {'aria-label': 'progress'}), table = make('div', {className: 'lrx-wrap'})
  const words = make('div', {role: 'status', className: 'lrx-words'})
  const gate = asker(model, () => {}), picture = stage(model, () => {}), hint = make('span', {className: 'lrx-hint'})
  const stop = make('button', {type: 'button', textContent: 'Stop', className: 'lrx-main', hidden: true,
    title: 'End after this step and keep what there is'})
  stop.addEventListener('click', () => {
    stop.disabled = true
    stop.textContent = 'Stopping'
    gate.ask({do: ['stop']})
  })
  stop.setAttribute('data-lm-suppress-shortcuts', 'true')
  const left = make('span'), row = make('div', {className: 'lrx-row'}, bar, left, stop, hint)
  const panel = make('div', {className: 'lrx'}, row, words, picture.box, table)
  function show() {
    const r = model.get('reading')
    row.hidden = !!r.ended
    bar.max = r.total || 1; bar.value = r.done || 0
    left.textContent = r.left || ''; words.textContent = r.words || ''; hint.textContent = r.hint || ''
    stop.hidden = !r.stoppable
    if (table.from !== r.table) table.innerHTML = table.from = r.table || ''
    picture.show(r, {})
    gate.answered(r)
    panel.dataset.n = r.n
  }
  el.append(panel)
  return {panel, picture, show, gate}
}

export function render({model, el}) {
  let view = null, kind = null, due = false, gone = false
  const heard = [], listen = (event, f) => { model.on(event, f); heard.push([event, f]) }
  const uid = model.get('about').uid, unhide = uid ? hide(uid) : () => {}
  const watch = new ResizeObserver(() => {
    if (gone || !view) return
    dress(view.panel)
    const width = Math.round(view.picture.box.clientWidth)
    const known = view.asked || model.get('reading').width || 0
    if (width >= 200 && Math.abs(width - known) > 3) view.gate.ask({width: view.asked = width})
  })
  function build() {
    view?.panel.remove()
    kind = model.get('about').kind
    view = (kind === 'live' ? watcher : explorer)(model, el)
    dress(view.panel)
    view.show()
    watch.disconnect()
    watch.observe(view.picture.box)
    if (kind === 'live') view.gate.ask({do: ['hello']})
  }
  // marimo sets and tells one value after another, Jupyter sets all first: look only when all of a message is there
  const look = () => {
    if (due) return
    due = true
    queueMicrotask(() => { due = false; if (!gone) model.get('about').kind === kind ? view.show() : build() })
  }
  for (const name of ['about', 'reading', 'given']) listen(`change:${name}`, look)
  build()
  return () => {
    gone = true
    watch.disconnect()
    view.gate.stop()
    unhide()
    for (const [event, f] of heard) model.off(event, f)
  }
}

// A model without a kernel: the nearest recorded frame answers
export function recorded({fixed, keys, values, frames}) {
  const state = {given: {}, ...fixed}, heard = {}, settings = frames.map(row => values[row[keys.indexOf('settings')]])
  const apart = (x, y) => typeof x !== 'number' || typeof y !== 'number' ? 1 : Math.abs(x - y)/(Math.abs(x) + Math.abs(y))
  const close = (a, b) => Object.keys(a).reduce((d, k) => d + (a[k] === b[k] ? 0 : apart(a[k], b[k])), 0)
  const take = (i, n) => {
    state.reading = {...fixed.reading, n}
    keys.forEach((k, j) => { (LAYERS.includes(k) ? state : state.reading)[k] = values[frames[i][j]] })
  }
  take(0, 0)
  return {
    get: k => state[k], set: (k, v) => { state[k] = v },
    on: (event, f) => (heard[event] ||= []).push(f),
    off: (event, f) => { heard[event] = heard[event]?.filter(x => x !== f) },
    save_changes() {
      const {n, settings: asked = state.reading.settings, do: acts = []} = state.asked
      const wanted = acts.includes('reset') ? settings[0] : asked
      take(settings.reduce((b, s, i) => close(s, wanted) < close(settings[b], wanted) ? i : b, 0), n)
      queueMicrotask(() => (heard['change:reading'] || []).forEach(f => f()))
    },
  }
}
export default {render}
