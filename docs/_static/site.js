// The tool to try: it looks answers up in window.TRYIT, which the library computed; and wide tables that a keyboard can scroll.
document.querySelectorAll('.table-wrapper, div.cell_output, .highlight pre, .math-wrapper').forEach(e => { if (e.scrollWidth > e.clientWidth) e.tabIndex = 0 })

function tryit(box, T) {
  const $ = s => box.querySelector(s), set = (s, o) => { for (const k in o) $(s).setAttribute(k, o[k]) }
  const names = ['beta', 'skip', 'threshold'], values = {beta: T.betas, skip: T.skips, threshold: T.thresholds}
  $('.t-picture').innerHTML = T.svg
  const tall = $('.t-left').getAttribute('height'), top = $('.t-left').getAttribute('y')
  function draw() {
    const at = Object.fromEntries(names.map(n => [n, +$('#try-' + n).value])), rule = +$('[name=try-rule]:checked').value
    for (const n of names) { const v = values[n][at[n]]; $(`#try-${n}-value`).textContent = v; $('#try-' + n).setAttribute('aria-valuetext', v) }
    const curve = at.beta*T.thresholds.length + at.threshold, part = curve*T.skips.length + at.skip, [path, cut] = T.trends[curve]
    const answers = T.rules.map((_, r) => T.answers[part*T.rules.length + r]), [why, lr, x, y, low, high, u, v] = answers[rule]
    const [first, last] = T.kept[part] || [T.ends[1], T.ends[1]]
    set('.t-window', {x: first, width: Math.max(0, last - first)})
    set('.t-left', {x: T.ends[0], width: first - T.ends[0]}); set('.t-right', {x: last, width: Math.max(0, T.ends[1] - last)})
    set('.t-cut', {d: cut ? `M${cut} ${top}v${tall}` : ''}); set('.t-all', {d: path}); set('.t-kept', {d: path})
    $('.t-answer').style.display = lr ? '' : 'none'
    if (lr) { set('.t-band', {x: u, width: v - u}); set('.t-rate', {d: `M${x} ${top}v${tall}`}); set('.t-dot', {cx: x, cy: y}) }
    const ends = [-1e9, -1e9, -1e9]
    $('.t-names').innerHTML = answers.map((a, r) => [a[2]/10, T.rules[r], r]).filter(a => a[0] >= 0).sort((a, b) => a[0] - b[0]).map(([x, name, r]) => {
      const half = 3.4*name.length, row = ends.findIndex(e => x - half > e), colour = r == rule ? T.orange : 'currentColor'
      if (row >= 0) ends[row] = x + half + 4
      return `<path d="M${x} ${T.top - 8}v8" stroke="${colour}" stroke-width="1.5"/>` + (row < 0 ? '' : `<text x="${x}" y="${T.top - 11 - 12*row}" text-anchor="middle" font-size="11" fill="${colour}" stroke="none">${name}</text>`)
    }).join('')
    $('.t-number').innerHTML = lr ? `lr ${lr} <small>${low} to ${high}</small>` : 'no suggestion'
    $('.t-why').textContent = T.sentences[why]
    set('.t-picture svg', {'aria-label': `Loss against learning rate. ${lr ? 'lr ' + lr : 'no suggestion'}: ${T.sentences[why]}`})
  }
  box.addEventListener('input', draw)
  $('.t-reset').addEventListener('click', () => { for (const n of names) $('#try-' + n).value = T.begin[n]; $(`[name=try-rule][value="${T.begin.rule}"]`).checked = true; draw() })
  draw()
}
const box = document.getElementById('tryit')
if (box) { const go = () => tryit(box, window.TRYIT); window.TRYIT ? go() : addEventListener('load', go) }
