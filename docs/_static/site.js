// Wide tables that a keyboard can scroll
document.querySelectorAll('.table-wrapper, div.cell_output, .highlight pre, .math-wrapper').forEach(e => { if (e.scrollWidth > e.clientWidth) e.tabIndex = 0 })
