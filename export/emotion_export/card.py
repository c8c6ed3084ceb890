"""The model card: what the model does, its failures and limits, its training and its accuracy."""

from typing import Final

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
| created by | {created_by} |

## Known failures

<!-- failures: begin -->
No failures have been recorded for this bundle. Look for them on people in front of your own camera.
<!-- failures: end -->

{limits}

## How it was trained

{training}

## What it measures

{metrics}

<!-- measured: begin -->
<!-- measured: end -->

## Parity of the exported graphs with torch

Every row compares ONNX Runtime (CPU) with the torch model on real and random images. P is the number of
people, F the number of frames. The export is refused if the largest or the mean absolute difference, the
cosine or the fraction of equal labels exceeds its tolerance; the last column is the tolerance of the largest
difference.

{parity}
"""

_WHAT = """\
An EmotionCLIP model (Zhang et al., CVPR 2023). Its input is a short clip and, for each person, the fraction
of every image patch that the person covers. Its output is one embedding per person, which linear heads turn
into probabilities of emotions. `bundle.json` lists every file with its SHA-256, all tensors and labels."""

_FACES_ONLY = """

**It reads faces, not the scene.** The architecture can use the scene, but this model was trained on faces
pasted on rendered backgrounds, which say nothing about the emotion."""

# Fingerprints of FER2013 with the votes of FER+ and GoEmotions, as `emotion-train pretrain` reads them for
# train/configs/nano.toml: with the votes alone, and with the predictions of the shipped model.
FER2013_RUNS: Final = (
    "2553cb4aee1ab3b19075fb7b4f65f759b83e3576048d9a1837e615b66936ddfb",
    "33f97decd272b96ca35227aa257a45a9b27e09e7b8da61bb483bf590bd864864",
)

_TRAINING_FER2013 = """\
With `emotion-train pretrain` and the data below, in which there are no films, TV series or recordings of real
scenes. The checkpoint was saved at step {step} of its stage `{stage}` (a finished run ends with `{last}`). It
does not say whether the run began with random weights, as `train/configs/nano.toml` does.

- Contrastive pre-training (paper Sec. 3.4) on *rendered* scenes: clips of 1-4 people, each a FER2013 face
  pasted on a drawn body and background. Patch weights mark the subject, and each clip is paired with a
  sentence that expresses the subject's emotion. The model therefore learned from faces and hardly anything
  about gestures, places or interactions. Before that, the stem was trained on the faces alone and the text
  tower on the sentences.
- The configuration `train/configs/nano.toml` adds a supervised loss: a classifier on the features, discarded
  after training, predicts what annotators see. Its targets mix the votes of ten people (FER+, Microsoft, MIT
  licence) with what the stem predicts and, where the run was given them, with what larger networks predict
  that were trained on the other faces (`emotion-train predict-votes`). "Zero-shot" heads are made from text
  without fitting, but the features were trained with the seven classes.
- Faces: FER2013, 48 x 48 grey, 7 classes, collected by web search. **No licence is stated: research use.**
  The bundle contains no images of it. Its one label differs from what most voters see for a third of the
  faces, and the classes are unbalanced: disgust is rare.
- Sentences: GoEmotions (CC BY 4.0), comments on Reddit, mapped to the seven Ekman classes.

Before you use the model, check whether you may use one that was trained on such images."""

_LAST_STAGE = "scenes"  # of emotion-train pretrain

_TRAINING_RELEASED = """\
Not by this project. The checkpoint has the layout of the weights that the authors of the paper released. If
these are their weights, they were trained on about a million clips of 3,613 episodes of TV series with their
subtitles (paper Sec. 4.1): acted emotions, mostly in English. The file does not prove that the weights are
theirs: compare the sha256 above with a source that you trust. The authors' terms apply to the weights."""

_TRAINING_UNKNOWN = """\
The checkpoint does not name its training data{fingerprint}. If you distribute this bundle, describe the data
here, and who may use what was made from it."""

_METRICS_ON_SCENES = """\
Measured by `emotion-train fit-probe` on scenes rendered with faces of the splits `val` and `test` of the face
archive that it was given. Which archive that was is not recorded: the model has not seen these faces if it
was the one that the model was trained on, whose splits `val` and `test` training leaves out. The label of a
face is the emotion with the most votes; `ece` compares the probabilities with the votes on a face, or with
its label where nobody voted. Chance is an accuracy of {chance:.3f}. `balanced_accuracy` is the mean recall of
the classes, `ece` the expected calibration error, and `changed` the fraction of pairs of people with
different emotions in one image whose predictions differ."""

_METRICS = """\
Measured by `emotion-train fit-probe` or `emotion-train evaluate` on a labelled data set; names start with the
split. No row that a metric counts was fitted on; those of `val` are optimistic where regularisation,
temperature or the threshold for a label were chosen on them. The report beside the head explains each metric,
its interval and what was left out."""

_LIMITS = """\
## What emotion recognition can and cannot do

It predicts how a person *looks* to annotators, not what the person feels. The same feeling shows differently
between people, cultures and situations, expressions can be posed, and the same face means different things in
different scenes. The labels of the training data contain the annotators' guesses and prejudices. Expect worse
results for people, ages, lighting and cameras that differ from the training data, and for rare classes. For
which groups of people it is worse has not been measured.

The metrics below hold for data like those they were measured on, and so do the probabilities. Measure on
people in front of your own camera before you rely on the model.

## Prohibited and irresponsible uses

- **In the European Union it is prohibited to infer the emotions of people at workplaces and in education**,
  except for medical or safety reasons: AI Act (Regulation (EU) 2024/1689), Art. 5(1)(f), in force since 2
  February 2025. Since 2 August 2026, anyone who uses it elsewhere must inform the people exposed to it (Art.
  50(3)), whether the use is high-risk or not. Other uses of emotion recognition are high-risk (Annex III);
  the duties that follow were postponed to 2 December 2027 by a law adopted in June 2026, whose publication we
  have not confirmed. RESPONSIBLE_USE.md, beside the source code, has the sources.
- Do not use it for decisions about a person: hiring, grading, insurance, credit, policing, border control,
  diagnosis, or lie detection.
- Do not use it on people who do not know about it or cannot refuse."""


def model_card(manifest: Manifest, checkpoint: Checkpoint) -> str:
    """Return the text of MODEL_CARD.md for a bundle."""
    config = checkpoint.model.config
    frame_parameters, temporal_parameters = _parameters(checkpoint.model)
    return _CARD.format(
        name=manifest.name,
        what=_WHAT + (_FACES_ONLY if _is_fer2013_run(checkpoint) else ""),
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
    """Return the licences of the weights and of the code of a bundle, in one line.

    The licence of the weights follows from the training data and from who trained them, not from the licence
    of the code.
    """
    if checkpoint.released:
        return "weights: as their authors state"
    if _is_fer2013_run(checkpoint):
        weights = "research use only (trained on FER2013, which states no licence)"
    else:
        weights = "not stated (see the data they were trained on)"
    return f"weights: {weights}; code: Apache-2.0"


def _training(checkpoint: Checkpoint) -> str:
    if checkpoint.released:
        return _TRAINING_RELEASED
    stage, step = checkpoint.progress or ("", 0)
    if _is_fer2013_run(checkpoint):
        return _TRAINING_FER2013.format(stage=stage, step=step, last=_LAST_STAGE)
    known = (
        f"; their fingerprint is `{checkpoint.data}` (stage `{stage}`, step {step})"
        if checkpoint.data
        else ""
    )
    return _TRAINING_UNKNOWN.format(fingerprint=known)


def _is_fer2013_run(checkpoint: Checkpoint) -> bool:
    """Return whether the last run that trained a checkpoint read FER2013: only then is its data known."""
    return checkpoint.data in FER2013_RUNS


def _metrics(name: str, head: Head, *, default: bool) -> str:
    kind = "linear, fitted on labelled data" if head.kind == "probe" else "text embeddings, not fitted"
    labels = ", ".join(head.labels)
    measured = "" if head.metrics else " Not measured."
    notes = "".join([" (default)" if default else "", " (EXPERIMENTAL)" if head.experimental else ""])
    unsure = f" No label is given if its probability is below {head.abstain:.3f}." if head.abstain else ""
    intro = f"Head `{name}`{notes}: {kind}.{measured}{unsure}\nLabels: {labels}."
    if not head.metrics:
        return intro
    rows = [f"| {metric} | {value:.4g} |" for metric, value in head.metrics.items()]
    table = "\n".join([intro, "", "| metric, by split | |", "|---|---|", *rows])
    of_scenes = any("one_person" in metric for metric in head.metrics)  # only rendered scenes have this set
    meaning = _METRICS_ON_SCENES.format(chance=1 / len(head.labels)) if of_scenes else _METRICS
    return f"{table}\n\n{meaning}"


def _parameters(model: EmotionCLIP) -> tuple[str, str]:
    """Return the number of parameters of the frame encoder and of the temporal encoder, in millions."""
    frame, temporal = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (model.backbone.visual, model.visual_head)
    )
    return f"{frame / 1e6:.2f} M", f"{temporal / 1e6:.2f} M"
