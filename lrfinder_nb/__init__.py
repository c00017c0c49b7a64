"""The learning-rate finder for notebooks. Public names are loaded when first used, so that a part that needs no torch loads none."""
__version__ = "0.1.0"

import sys
from importlib import import_module
from types import ModuleType

_NAMES = {
    'curve': ('LossCurve', 'load_curve', 'save_curve'),
    'suggest': ('NoSuggestion', 'RULES', 'Reading', 'Suggestion', 'analyse', 'rule'),
    'diagnose': ('diagnose',),
    'consensus': ('Consensus', 'Spread', 'consensus', 'diagnose_runs'),
    'scaling': ('Scaled', 'scale_lr'),
    'schedule': ('one_cycle', 'sweep_lrs'),
    'plot': ('plot_curve',),
    'state': ('preserved', 'set_seed'),
    'finder': ('LRFinder',),
    'repeat': ('Repeats', 'compare', 'compare_batch_sizes', 'repeat', 'sources'),
    'explorer': ('LRExplorer',),
    'mixup': ('mixup', 'soft_cross_entropy'),
    'train': ('History', 'TrainingDiverged', 'accuracy', 'best_device', 'fit_one_cycle', 'load_history'),
    'data': ('digits', 'fashion_mnist'),
    'models': ('SmallCNN',),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = ['__version__', *sorted(_HOME)]


def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f'{__name__}.{_HOME[name]}'), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    "A package whose module `diagnose`, when imported, does not hide the function `diagnose`"
    def __setattr__(self, name, value):
        if not (name in _HOME and isinstance(value, ModuleType)): super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__(): return sorted({*globals(), *_HOME})
