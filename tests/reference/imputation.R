# Pooled Cox models of survival::lung, and of the scalar rules, by R's mice: Rscript imputation.R > imputation.json
# (R, survival and mice, with jsonlite to write). The seed is fixed; the fillings themselves are kept.
suppressMessages({library(mice); library(survival); library(jsonlite)})
terms <- c("age", "sex", "ph.ecog", "wt.loss", "meal.cal")
lung <- survival::lung
lung$event <- as.numeric(lung$status == 2)
lung$hazard <- nelsonaalen(lung, time, event)
given <- lung[, c("time", "event", "hazard", terms)]
roles <- make.predictorMatrix(given)
roles[, "time"] <- 0
numbers <- function(imp) {
  fits <- with(imp, coxph(Surv(time, event) ~ age + sex + ph.ecog + wt.loss + meal.cal, ties = "efron"))
  p <- summary(pool(fits), type = "all", conf.int = TRUE)
  list(estimates = t(sapply(fits$analyses, coef)), variances = t(sapply(fits$analyses, function(f) diag(vcov(f)))),
       dfcom = p$dfcom[1], estimate = p$estimate, se = p$std.error, df = p$df, fmi = p$fmi, low = p$`2.5 %`,
       high = p$`97.5 %`)
}
few <- mice(given, m = 5, method = "norm", predictorMatrix = roles, seed = 1, printFlag = FALSE)
many <- mice(given, m = 100, method = "norm", predictorMatrix = roles, seed = 2, printFlag = FALSE)
large <- pool.scalar(c(1, 2, 4), c(0.5, 0.4, 0.6), n = Inf, k = 1)
small <- pool.scalar(c(1, 2, 4), c(0.5, 0.4, 0.6), n = 20, k = 1)
keep <- c("qbar", "ubar", "b", "t", "df", "r", "fmi")
out <- list(
  versions = list(R = R.version.string, survival = as.character(packageVersion("survival")),
                  mice = as.character(packageVersion("mice"))),
  terms = terms, few = numbers(few), many = numbers(many)[c("estimate", "se", "fmi")],
  scalar = list(large = large[keep], small = small[keep])
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = TRUE), "\n")
