"""The plot of a soak: memory, threads and handles, events per second, and reconnections over time."""

from typing import Any

from emotion_train.plotting import BLUE, GREY, RED, SERIES, new_figure, style_axes, to_png


def plot(result: dict[str, Any]) -> bytes:
    """Return the plot as PNG.

    Args:
        result: See `soak.summary`.
    """
    figure = new_figure(10, 9, "Four sources, two of which fail at random moments")
    memory, counts, rates, reconnections = figure.subplots(4, 1, sharex=True)
    minutes = [sample["t"] / 60 for sample in result["samples"]]
    style_axes(memory, "memory (RSS), MB")
    memory.plot(minutes, [sample["rss_mb"] for sample in result["samples"]], color=BLUE, lw=1.6)
    memory.set_ylim(bottom=0)
    style_axes(counts, "threads and handles")
    for name, color in (("threads", BLUE), ("handles", RED)):
        counts.plot(minutes, [sample[name] for sample in result["samples"]], color=color, lw=1.6, label=name)
    counts.set_ylim(bottom=0)
    style_axes(rates, "events per second; grey: door or lobby is broken")
    names = sorted(result["events_per_second"])
    colors = dict(zip(names, SERIES, strict=False))
    samples = result["samples"]
    step = (samples[1]["t"] - samples[0]["t"]) / 60 if len(samples) > 1 else 1.0
    for name in names:
        values = result["events_per_second"][name]
        rates.plot(
            [index * step for index in range(len(values))], values, color=colors[name], lw=1.3, label=name
        )
    rates.set_ylim(bottom=0)
    for fault in result["faults"]:
        rates.axvspan(fault["start"] / 60, fault["end"] / 60, color=GREY, alpha=0.15, lw=0)
    style_axes(reconnections, "seconds from the repair of a camera to its next event")
    for name in names:
        own = [fault for fault in result["faults"] if fault["source"] == name and fault["back"] is not None]
        if own:
            x, y = [fault["end"] / 60 for fault in own], [fault["back"] for fault in own]
            reconnections.scatter(x, y, s=18, color=colors[name], label=name)
    reconnections.set_ylim(bottom=0)
    reconnections.set_xlabel("minutes", fontsize=9)
    for axes in (counts, rates, reconnections):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    return to_png(figure)
