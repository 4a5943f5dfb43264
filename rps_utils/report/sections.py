"""The sections of the report: which figures and tables stand in which order."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetricTable:
    """One table of metrics on the page: which rows, what the columns stand for, and its caption."""

    metrics: tuple[str, ...]
    columns: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One section of the page: figures by the number of their notebook, tables by the beginning of their name."""

    number: str
    title: str
    text: str
    tables: tuple[str, ...] = ()
    metrics: tuple[MetricTable, ...] = field(default=())


SECTIONS = [
    Section(
        "01",
        "Cohort",
        "Who was studied, and for how long. Follow-up is the reverse Kaplan-Meier median.",
        ("flow", "table1", "table_1", "follow_up"),
    ),
    Section(
        "02",
        "Augmentation",
        "What the transforms do to a patient and to the score.",
        ("augmentation",),
    ),
    Section("03", "Deep learning", "The network, its training and its scores.", ("dl_",)),
    Section("04", "Radiomics", "Handcrafted features, their selection and their score.", ("radiomics",)),
    Section(
        "05",
        "Clinical Cox model",
        "Hazard ratios above 1 mean earlier recurrence. Training patients only.",
        ("clinical",),
    ),
    Section(
        "06",
        "Fusion",
        "Cox models on image score and clinical factors. In-sample scores are shown beside cross-fitted ones "
        "because they inflate their own hazard ratio.",
        ("fusion",),
    ),
    Section(
        "07",
        "Discrimination",
        "C is 0.5 for a score that knows nothing. Apparent C judges memory; cross-fitted C judges the recipe on "
        "patients it did not learn from; validation C judges the finished model.",
        (),
        (
            MetricTable(("harrell_c",), "kind", "Harrell's C with 95 % BCa intervals over resampled patients."),
            MetricTable(("uno_c",), "kind", "Uno's C up to tau, weighted against unequal censoring."),
            MetricTable(
                ("harrell_c_difference", "harrell_c_difference_p", "harrell_c_difference_permutation_p"),
                "metric",
                "Paired differences of Harrell's C: jackknife p and permutation p, two-sided.",
            ),
        ),
    ),
    Section(
        "08",
        "Time-dependent ROC",
        "Recurred by the landmark against still free after it, weighted for censoring.",
        (),
        (
            MetricTable(("td_auc",), "horizon_months", "Cumulative/dynamic AUC at each landmark, 95 % BCa intervals."),
            MetricTable(
                ("integrated_td_auc",), "kind", "AUC over the landmarks, weighted by recurrences between them."
            ),
        ),
    ),
    Section(
        "09",
        "Calibration",
        "Whether predicted probabilities come true. The apparent rows say nothing: overall a Cox model expects as "
        "many recurrences in its own training patients as there were, and its slope there is 1 without a penalty and "
        "above 1 with one.",
        ("calibration_missing",),
        (
            MetricTable(("calibration_slope",), "kind", "Calibration slope: 1 is right, below 1 too extreme."),
            MetricTable(("observed_expected",), "horizon_months", "Observed over expected risk at each landmark."),
            MetricTable(
                ("observed_expected_overall", "d_calibration_p"),
                "metric",
                "All of follow-up: observed over expected recurrences, and p of D-calibration.",
            ),
            MetricTable(("ici",), "horizon_months", "Integrated calibration index; not meaningful in few patients."),
            MetricTable(("brier",), "horizon_months", "Brier score, weighted for censoring; 0 is perfect."),
            MetricTable(("ipa",), "horizon_months", "IPA: share of the Kaplan-Meier curve's Brier score saved."),
            MetricTable(("ibs",), "kind", "Integrated Brier score over the landmarks."),
        ),
    ),
    Section(
        "10",
        "Decision curves",
        "Net benefit of acting on the predicted risk, against treating everybody and nobody.",
    ),
    Section(
        "11",
        "Risk groups",
        "The cut-off comes from the training scores and was applied unchanged to validation. A training p-value "
        "is not evidence: an apparent score was fitted to these very outcomes, and so was a cut-off that was searched "
        "for. Cross-fitted scores cut at their median judge the recipe, not one finished model.",
        ("risk_groups_cutoffs", "risk_groups_risks"),
        (
            MetricTable(
                ("hazard_ratio", "logrank_p", "rmst_difference"),
                "metric",
                "High against low risk: hazard ratio, log-rank p, and how much longer low risk stays free on average.",
            ),
            MetricTable(
                ("incidence_observed_expected",),
                "horizon_months",
                "Deaths counted: Aalen-Johansen risk of recurrence over the mean predicted one.",
            ),
            MetricTable(
                ("incidence_td_auc",), "horizon_months", "Deaths counted: AUC of those who recurred against all others."
            ),
            MetricTable(
                ("incidence_ipa",),
                "horizon_months",
                "Deaths counted: share of the Aalen-Johansen curve's Brier score saved.",
            ),
        ),
    ),
    Section(
        "12",
        "The paper and this run",
        "The paper's numbers, from its abstract, beside those of this run.",
        ("paper",),
    ),
    Section(
        "13",
        "Could luck give such numbers?",
        "The same pipeline on many synthetic cohorts whose truth is known: how far a C moves by luck, what optimism "
        "adds, and how often tests ring where there is nothing. Nothing here comes from the patients of this run.",
        ("claim",),
    ),
    Section(
        "14",
        "Controls",
        "Whether the image scores read more than the tumour's size, outline and histogram, whether they follow "
        "the scanner, and how they do in each centre and subgroup that has ten recurrences. No difference between "
        "subgroups is claimed below a hundred in each. The planted shortcut is synthetic.",
        ("controls_",),
    ),
    Section(
        "15",
        "Explanation of the DL-score",
        "Integrated gradients from a patient whose tumour and surroundings were levelled, validation patients only. "
        "Maps are graded against chance and against networks with shuffled weights; what moves the network need not "
        "move the disease.",
        ("explanation_",),
    ),
    Section(
        "16",
        "Doubt",
        "How far the networks disagree about a patient, how long a patient stays free of recurrence with a stated "
        "probability, and who is unlike the training patients.",
        ("doubt",),
    ),
]
