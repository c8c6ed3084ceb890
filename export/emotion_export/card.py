"""The model card: what the model is, what it was trained on, what it measures, and who must not use it."""

from emotion_export.parity import parity_table
from emotion_runtime.manifest import Head, Manifest
from emotion_train.model import EmotionCLIP
from emotion_train.pretrained import Checkpoint

_CARD = """\
# {name}

{what}

| part | |
|---|---|
| preset | `{preset}` |
| subject | `{subject}`{bias} |
| frame encoder | {frame_parameters} parameters, input {size} x {size} px, {patches} patches |
| temporal encoder | {temporal_parameters} parameters, clips of {frames} frames over {seconds} s |
| embedding | {dim} values |
| window | `{window}` |
| licence | {license} |
| checkpoint | sha256 `{checkpoint}` |
| made by | {created_by} |

## How it was trained

{training}

## What it measures

{metrics}

<!-- measured: begin -->
<!-- measured: end -->

{limits}

## Is the exported graph the model?

Every row compares ONNX Runtime (CPU, float32) with the torch model on real and drawn pictures. An export
beyond what is tolerated of max abs, or of mean abs and cosine, is refused.

{parity}
"""

_WHAT = """\
A model of the EmotionCLIP kind (Zhang et al., CVPR 2023). Its input is a short clip and, for each person,
the fraction of every image patch that the person covers; its output is one embedding per person, which linear
heads turn into probabilities of emotions. `bundle.json` lists every file with its SHA-256, every tensor and
every label."""

_FACES_ONLY = """

**It reads faces, not the scene.** The architecture can use the scene, but this model was trained on faces
pasted on rendered backgrounds. On 81 photographs of one person, replacing everything beyond half a head width
around the head by grey kept the likeliest label of 80."""

_TRAINING_NANO = """\
From nothing, with `train/pretrain.py` and the data below; saved at step {step} of its stage `{stage}`
(a finished run ends with `{last}`). No film, no series and no footage of real scenes was used.

- Contrastive pre-training (paper Sec. 3.4) on *rendered* scenes: clips of 1-4 people, each a FER2013 face
  pasted on a drawn body and background, the subject given by patch weights, paired with a sentence of the
  subject's emotion. So the model knows faces, and hardly anything of gestures, places or what people do to
  each other. Before that the stem learned on the faces alone and the text tower on the sentences.
- The recipe of `train/configs/nano.toml` adds a supervised term: a classifier of the features, thrown away
  afterwards, that has to give the label, softened by what the stem sees in the face. "Zero-shot" is said of a
  bank that was fitted on nothing; the features know the seven classes.
- Faces: FER2013, 48 x 48 grey, 7 classes, collected by web search. **No licence is stated: research use.**
  Nothing of it is in this bundle but what the weights learned. Its labels are noisy (people reach about
  65 %, Goodfellow et al. 2013) and unbalanced: the class disgust is tiny.
- Sentences: GoEmotions (CC BY 4.0), comments on Reddit, mapped to the seven Ekman classes.

Whether a model trained on such pictures may be used for your purpose is yours to find out before you do."""

_LAST_STAGE = "scenes"  # of train/pretrain.py

_TRAINING_RELEASED = """\
Not by this project. The checkpoint has the layout of the weights that the authors of the paper released. If
these are their weights, they were trained on about a million clips of 3,613 episodes of TV series with
their subtitles (paper Sec. 4.1): acted emotions, mostly in English. Nothing in the file proves that it is
theirs: compare the sha256 above with a source you trust. Their terms apply to it."""

_TRAINING_UNKNOWN = """\
The checkpoint does not say on what data. Whoever passes this bundle on: write it here."""

_FIGURES_OF_SCENES = """\
Measured by `train/fit_probe.py` on scenes rendered with FER2013 faces that no training saw. Guessing gives
an accuracy of {chance:.3f}; `balanced_accuracy` is the mean recall of the classes, `ece` the expected
calibration error, and `changed` the fraction of pairs of people of different emotions in one image whose
predictions differ."""

_FIGURES = """\
Measured by `train/fit_probe.py` or `train/evaluate.py` on a labelled data set; a name begins with the split.
What each figure means, its interval and what was left out stand in the report beside the head."""

_LIMITS = """\
Figures hold for data like that they were measured on, and the probabilities are at best as good as that:
measure on people in front of your own camera before you rely on anything.

## What emotion recognition can and cannot know

It reads how a person *looks* to annotators, not what the person feels. The same feeling shows differently
between people, cultures and situations, faces are put on, and the same face means different things in
different scenes; labels of the training data carry the annotators' guesses and prejudices. Expect it to be
worse for people, ages, lighting and cameras unlike those of its training data, and for rare classes. Which
groups it is worse for was not measured.

## Who must not use it

- **In the European Union it is prohibited to infer the emotions of people at workplaces and in education**,
  except for medical or safety reasons: AI Act (Regulation (EU) 2024/1689), Art. 5(1)(f), in force since
  2 February 2025. Other uses of emotion recognition are high-risk (Annex III). Since 2 August 2026 whoever
  uses it must inform the people exposed to it (Art. 50(3)), whether the use is high-risk or not.
- Nobody should use it to decide about a person: hiring, grading, insurance, credit, policing, borders,
  diagnosis, or to find out who lies.
- Nobody should use it on people who do not know of it or cannot refuse."""


def model_card(manifest: Manifest, checkpoint: Checkpoint) -> str:
    """MODEL_CARD.md of a bundle."""
    config = checkpoint.model.config
    frame_parameters, temporal_parameters = _parameters(checkpoint.model)
    return _CARD.format(
        name=manifest.name,
        what=_WHAT + (_FACES_ONLY if _is_nano_run(checkpoint) else ""),
        preset=manifest.preset,
        subject=config.subject,
        bias=", with attention bias" if config.subject_bias else "",
        frame_parameters=frame_parameters,
        temporal_parameters=temporal_parameters,
        size=manifest.preprocess.size,
        patches=manifest.preprocess.patches,
        frames=manifest.clip_frames,
        seconds=f"{manifest.clip_seconds:g}",
        dim=manifest.embedding_dim,
        window=manifest.preprocess.window,
        license=manifest.license,
        checkpoint=manifest.checkpoint_sha256,
        created_by=manifest.created_by,
        training=_training(checkpoint),
        metrics="\n\n".join(
            _metrics(name, head, default=name == manifest.default_head)
            for name, head in manifest.heads.items()
        ),
        limits=_LIMITS,
        parity=parity_table(manifest.parity),
    )


def license_of(checkpoint: Checkpoint) -> str:
    """Return the terms of a bundle's weights and of its code, in one line.

    Weights have the terms of the data and the people that made them, whatever the licence of the code.
    """
    if checkpoint.released:
        return "weights: as their authors state"
    if _is_nano_run(checkpoint):
        weights = "research use only (trained on FER2013, which states no licence)"
    else:
        weights = "not stated (see the data they were trained on)"
    return f"weights: {weights}; code: Apache-2.0"


def _training(checkpoint: Checkpoint) -> str:
    if checkpoint.released:
        return _TRAINING_RELEASED
    if _is_nano_run(checkpoint):
        stage, step = checkpoint.progress or ("", 0)
        return _TRAINING_NANO.format(stage=stage, step=step, last=_LAST_STAGE)
    return _TRAINING_UNKNOWN


def _is_nano_run(checkpoint: Checkpoint) -> bool:
    """Only a nano checkpoint that went through pretrain.py is known to have seen nano's data."""
    return checkpoint.preset == "nano" and checkpoint.progress is not None


def _metrics(name: str, head: Head, *, default: bool) -> str:
    kind = "linear, fitted on labels" if head.kind == "probe" else "text embeddings, fitted on nothing"
    labels = ", ".join(head.labels)
    measured = "" if head.metrics else " Not measured."
    notes = "".join([" (default)" if default else "", " (EXPERIMENTAL)" if head.experimental else ""])
    unsure = f" No label is given under a probability of {head.abstain:.3f}." if head.abstain else ""
    intro = f"Head `{name}`{notes}: {kind}.{measured}{unsure}\nLabels: {labels}."
    if not head.metrics:
        return intro
    rows = [f"| {metric} | {value:.4g} |" for metric, value in head.metrics.items()]
    figures = "\n".join([intro, "", "| figure, on unseen data | |", "|---|---|", *rows])
    of_scenes = any("one_person" in metric for metric in head.metrics)  # a set that only scenes have
    meaning = _FIGURES_OF_SCENES.format(chance=1 / len(head.labels)) if of_scenes else _FIGURES
    return f"{figures}\n\n{meaning}"


def _parameters(model: EmotionCLIP) -> tuple[str, str]:
    """Of the frame encoder and of the temporal encoder, in millions."""
    frame, temporal = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (model.backbone.visual, model.visual_head)
    )
    return f"{frame / 1e6:.2f} M", f"{temporal / 1e6:.2f} M"
