"""Sphinx: the site from the notebooks, their stored outputs and docs/pages"""
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from bridge import Faults, Site
from cells import escape, settings

ini = settings()
project, author, copyright = ini['title'], ini['author'], ini['copyright']
version = release = ini['version']
BUILT = HERE.parent/ini['doc_path']/'static'      # pictures and data made by the build
BUILT.mkdir(parents=True, exist_ok=True)

extensions = ['myst_nb', 'sphinx_copybutton']
root_doc, language = 'index', 'en'
nb_execution_mode = 'off'       # outputs are those stored in the notebooks
nb_merge_streams = True
nb_render_markdown_format = 'myst'
myst_enable_extensions = ['dollarmath', 'colon_fence', 'attrs_inline', 'attrs_block', 'fieldlist']
myst_heading_anchors = 3
add_module_names = False
python_maximum_signature_line_length = 70
toc_object_entries = False      # the side shows the sections of the lesson
nitpicky = True                 # a link to a missing name is a warning, and -W makes it an error
nitpick_ignore_regex = [('py:class', '.*'), ('py:exc', '.*')]      # types in signatures of other libraries
suppress_warnings = ['ref.python']       # two modules may each have a name, such as `Task`, that signatures use
html_theme, html_title = 'furo', project
html_static_path = ['_static', str(BUILT)]
html_css_files, html_js_files = ['site.css'], [('site.js', {'defer': 'defer'})]
html_favicon = '_static/favicon.svg'
html_math_renderer = 'mathml'   # no script, no CDN
html_show_sourcelink = html_copy_source = html_show_sphinx = False
html_baseurl = f"{ini['doc_host']}{ini['doc_baseurl']}".rstrip('/') + '/'
if v := os.environ.get('DOCS_VERSION'): html_baseurl += f'{v}/'
html_theme_options = dict(navigation_with_keys=False)
pygments_style, pygments_dark_style = 'a11y-light', 'a11y-dark'
copybutton_exclude = '.linenos, .gp, .go'


def math(display):
    "A visitor that writes MathML"
    def visit(self, node):
        from docutils import nodes
        from latex2mathml.converter import convert
        self.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode
    return visit


def stage(app):
    "Write the pages, or stop and say what is wrong where"
    from sphinx.errors import ExtensionError
    from fill import filler
    app.site = Site(app.srcdir)
    try: app.site.stage(filler(BUILT))
    except Faults as e: raise ExtensionError(f'the notebooks cannot become pages:\n{e}') from None


# Arguments of a long signature are a list without terms, which screen readers stumble over.
ARGUMENTS = re.compile(r'<dl>\n((?:<dd><em class="sig-param.*?</dd>\n?)+)</dl>', re.S)


def spans(m):
    "The arguments as plain blocks"
    inner = m[1].replace('<dd>', '<span class="sig-arg">').replace('</dd>', '</span>')
    return f'<span class="sig-args">{inner}</span>'


def describe(app, name, template, context, doctree):
    "What search engines and previews show of a page"
    title, about = app.site.about.get(name, (project, ini['description']))
    about = about.replace('`', '') or ini['description']
    if tree := context.get('furo_navigation_tree'):
        context['furo_navigation_tree'] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if body := context.get('body'): context['body'] = ARGUMENTS.sub(spans, body)
    previews = {
        'title': title if title == project else f'{title} · {project}',
        'description': about, 'type': 'website',
        'url': html_baseurl + ('' if name == 'index' else f'{name}.html'), 'site_name': project,
        'image': html_baseurl + '_static/social.png',
        'image:alt': 'A learning-rate curve with its suggested rate'}
    tags = [f'name="description" content="{escape(about)}"',
            'name="twitter:card" content="summary_large_image"']
    tags += [f'property="og:{k}" content="{escape(v)}"' for k, v in previews.items()]
    context['metatags'] = '\n'.join([context.get('metatags', ''), *(f'<meta {tag}/>' for tag in tags)])


def lists(app, failed):
    "sitemap.xml, and llms.txt for readers that are programs"
    if failed or app.builder.name != 'html': return
    names = sorted(app.env.found_docs, key=lambda n: (n != 'index', n))
    url = lambda n: html_baseurl + f'{n}.html'
    locs = [f'<url><loc>{url(n)}</loc></url>' for n in names]
    head = ['<?xml version="1.0" encoding="utf-8"?>',
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">']
    (Path(app.outdir)/'sitemap.xml').write_text('\n'.join([*head, *locs, '</urlset>', '']))
    about = {n: app.site.about.get(n, (n, '')) for n in names}
    lines = [f'- [{title}]({url(n)}): {words}' for n, (title, words) in about.items()]
    head = [f'# {project}', '', f"> {ini['description']}", '']
    (Path(app.outdir)/'llms.txt').write_text('\n'.join([*head, *lines, '']))


def setup(app):
    app.add_html_math_renderer('mathml', (math('inline'), None), (math('block'), None))
    app.connect('builder-inited', stage)
    app.connect('html-page-context', describe, priority=900)      # after the theme
    app.connect('build-finished', lists)
