// Wide tables that a keyboard can scroll
document.querySelectorAll('.table-wrapper, div.cell_output, .highlight pre, .math-wrapper').forEach(e => { if (e.scrollWidth > e.clientWidth) e.tabIndex = 0 })
// Moving pictures stand still for those who ask for that
const still = img => {
  const canvas = document.createElement('canvas')
  canvas.width = img.naturalWidth
  canvas.height = img.naturalHeight
  canvas.style.maxWidth = '100%'
  canvas.setAttribute('role', 'img')
  canvas.setAttribute('aria-label', img.alt)
  canvas.getContext('2d').drawImage(img, 0, 0)
  img.replaceWith(canvas)
}
if (matchMedia('(prefers-reduced-motion: reduce)').matches) document.querySelectorAll('img[src$=".gif"]').forEach(img => img.decode().then(() => still(img)))
