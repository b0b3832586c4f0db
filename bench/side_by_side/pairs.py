# SPDX-License-Identifier: BSD-2-Clause
"""Two sides measured in turn, and what the turns come to."""

from statistics import median

from processes import say


class Side:
    """One side of a comparison: its settings by name, each a function that measures once."""

    def __init__(self, settings):
        self.settings = settings
        self.figures = {name: [] for name in settings}

    def measure(self, label, unit):
        for name, measure_once in self.settings.items():
            figure = measure_once()
            self.figures[name].append(figure)
            say("  %s%s: %s" % (label, " " + name if name else "", show(figure, unit)))

    def drop(self, n):
        for figures in self.figures.values():
            del figures[:n]

    def best(self, more_is_better):
        """The name of the setting with the best median."""
        choose = max if more_is_better else min
        return choose(self.figures, key=lambda name: median(self.figures[name]))


def measure_pairs(ours, theirs, n_pairs, n_dropped, unit):
    """Alternating, and taking turns in who is first; the first n_dropped pairs only warm up."""
    for i in range(n_dropped + n_pairs):
        say(" pair %d of %d" % (i + 1 - n_dropped, n_pairs) if i >= n_dropped else " pair to warm up")
        sides = [("ours  ", ours), ("theirs", theirs)]
        for label, side in sides if i % 2 == 0 else reversed(sides):
            side.measure(label, unit)
    ours.drop(n_dropped)
    theirs.drop(n_dropped)


def compare(ours, theirs, more_is_better):
    """Medians of the best setting of each side, and of the ratios pair by pair."""
    best = ours.best(more_is_better), theirs.best(more_is_better)
    a, b = ours.figures[best[0]], theirs.figures[best[1]]
    ratios = [x / y for x, y in zip(a, b)]
    return {
        "ours": median(a),
        "theirs": median(b),
        "ratio": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "pairs": len(a),
        "ours_setting": best[0] or None,
        "theirs_setting": best[1] or None,
    }


def show(figure, unit):
    """A figure for people."""
    if unit == "bytes/s":
        return "%.2f GB/s" % (figure / 1e9) if figure >= 1e9 else "%.1f MB/s" % (figure / 1e6)
    if unit == "s":
        return "%.3f s" % figure
    return "%.4f" % figure
