"""The learning-rate finder for notebooks. Public names are loaded when first used, so that a part that needs no torch loads none."""
__version__ = "0.1.0"

from importlib import import_module

_NAMES = {
    'curve': ('LossCurve', 'load_curve', 'save_curve'),
    'suggest': ('NoSuggestion', 'RULES', 'Reading', 'Suggestion', 'analyse', 'rule'),
    'diagnose': ('diagnose',),
    'consensus': ('Consensus', 'Spread', 'consensus'),
    'schedule': ('one_cycle', 'sweep_lrs'),
    'plot': ('plot_curve',),
    'state': ('preserved', 'set_seed'),
    'finder': ('LRFinder',),
    'explorer': ('LRExplorer',),
    'data': ('digits',),
    'models': ('SmallCNN',),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = ['__version__', *sorted(_HOME)]


def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f'{__name__}.{_HOME[name]}'), name)
    globals()[name] = value
    return value


def __dir__(): return sorted({*globals(), *_HOME})
