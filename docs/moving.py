"""The moving picture of the README: the explorer in JupyterLab, used with the mouse in a real browser.

    python docs/moving.py       writes docs/data/sliders.gif
"""
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from run_nbs import ROOT
from tryit import SWEEP

sys.path.append(str(ROOT/'tests/browser'))
from lab import Notebook, Panel, browsing, fresh_page, serving  # noqa: E402

MOVIE = ROOT/'docs/data/sliders.gif'
WIDTH, PAD, COLOURS, LIMIT = 1220, 5, 48, 400*1024
SHOWN = '''
from lrfinder_nb import LRExplorer, load_curve
explorer = LRExplorer(load_curve('sweep.json'), diverge_threshold=4)
explorer'''
ROW = "e => e.closest('tr').textContent"
ARROW = """() => {
  const arrow = document.createElement('div')
  arrow.style.cssText = 'position:fixed;left:0;top:0;z-index:99999;pointer-events:none'
  arrow.innerHTML = `<svg width="20" height="26"><path d="M2 2v19l5-4 3 7 4-2-3-7h6z" fill="#000" stroke="#fff"
    stroke-width="1.5"/></svg>`
  document.body.append(arrow)
  addEventListener('pointermove', e => { arrow.style.transform = `translate(${e.clientX}px,${e.clientY}px)` }, true)
}"""


class Camera:
    "Takes pictures of a panel while a mouse moves over it"
    def __init__(self, panel):
        self.panel, self.page, self.frames, self.at = panel, panel.page, [], None
        self.page.evaluate(ARROW)
        box = panel.box.bounding_box()        # a later warning may make the panel higher, but not the picture
        self.clip = dict(x=box['x'] - PAD, y=box['y'] - PAD, width=box['width'] + 2*PAD, height=box['height'] + 2*PAD)

    def take(self, hold):
        "A picture that is shown for `hold` milliseconds; a long one waits until the panel has come to rest"
        self.page.wait_for_timeout(120)
        if hold > 500: self.panel.notebook.until(self.panel.rested, 'the panel comes to rest')
        image = Image.open(io.BytesIO(self.page.screenshot(clip=self.clip)))
        self.frames.append((image.convert('RGB'), hold))

    def move(self, x, y, steps=3, hold=70):
        "Move the mouse in a few steps, with a picture of each"
        x0, y0 = self.at or (x, y + 60)
        for i in range(1, steps + 1):
            self.page.mouse.move(x0 + (x - x0)*i/steps, y0 + (y - y0)*i/steps)
            self.take(hold)
        self.at = x, y

    def drag(self, name, *places):
        "Drag the handle of a slider to places that are so many pixels away, one after the other"
        x, y = self.panel.grip(name)
        self.move(x, y)
        self.page.mouse.down()
        for pixels in places:
            self.move(x + pixels, y, steps=6, hold=110)
            self.take(800)
        self.page.mouse.up()

    def click(self, part):
        "Click on a part of the panel"
        box = part.bounding_box()
        self.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
        self.page.mouse.click(*self.at)
        self.take(1300)


def filmed(panel):
    "The scenes: smooth less and more, look for another landmark, read less of the start, and put all back"
    camera = Camera(panel)
    camera.move(*panel.grip('beta'), steps=1, hold=1500)
    camera.drag('beta', -50, 12)
    camera.click(panel.rule('steepest'))
    camera.drag('skip_start', 40)
    camera.click(panel.button('Reset'))
    return camera.frames


def write(frames, path):
    "The pictures as one GIF with one palette"
    images, holds = zip(*frames)
    strip = Image.new('RGB', (images[0].width, images[0].height*3))
    for k, image in enumerate((images[0], images[len(images)//2], images[-2])):
        strip.paste(image, (0, k*images[0].height))
    palette = strip.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    first.save(path, save_all=True, append_images=rest, duration=holds, loop=0, optimize=True, disposal=1)
    if path.stat().st_size > LIMIT: raise SystemExit(f'{path} has {path.stat().st_size} bytes; {LIMIT} are allowed')


def main():
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as lab, browsing() as browser:
        shutil.copy(SWEEP, lab.folder/'sweep.json')
        lab.write('moving.ipynb', SHOWN)
        page = fresh_page(browser)
        notebook = Notebook(lab, page, 'moving.ipynb')
        page.set_viewport_size(dict(width=WIDTH, height=1400))
        notebook.run_all()
        panel = Panel(notebook, 'explorer')
        notebook.until(lambda: ' to ' in panel.rule('slide').evaluate(ROW), 'every rule has an interval', 30)
        frames = filmed(panel)
    write(frames, MOVIE)
    seconds = sum(hold for _, hold in frames)/1000
    width, height = frames[0][0].size
    print(f'{MOVIE.relative_to(ROOT)}: {len(frames)} pictures of {width} by {height}, {seconds:.0f} s, '
          f'{MOVIE.stat().st_size/1024:.0f} KB')


if __name__ == '__main__': main()
