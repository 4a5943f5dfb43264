## Values of riskRegression, survival and prodlim for predictions of a risk with a competing one.
##   Rscript tests/reference/competing.R tests/reference
## writes inputs/competing.csv (patients and predictions) and competing.csv (values). R 4.2.2, riskRegression 2022.11.28,
## survival 3.5-3, prodlim 2019.11.13.
suppressMessages({library(survival); library(prodlim); library(riskRegression)})
folder <- commandArgs(TRUE)[1]
set.seed(7)
n <- 480
x <- rnorm(n)
recurs <- rexp(n, 0.02 * exp(0.8 * x)); dies <- rexp(n, 0.012); leaves <- runif(n, 10, 90)
## Whole months, so that times tie.
time <- ceiling(pmin(recurs, dies, leaves))
cause <- ifelse(leaves <= pmin(recurs, dies), 0, ifelse(recurs <= dies, 1, 2))
## riskRegression takes no model without a term: `same` is one that tells nothing.
data <- data.frame(time, cause, x, same = rep(c(-1, 1), n / 2))
rm(time, cause, x)
train <- data[1:400, ]; test <- data[401:480, ]
fit <- CSC(list(Hist(time, cause) ~ x, Hist(time, cause) ~ same), data = train)
values <- data.frame()
add <- function(what, horizon, value) values <<- rbind(values, data.frame(what, horizon, value = sprintf("%.15g", value)))
for (horizon in c(12.5, 24, 36.5, 48)) {
  predicted <- round(as.numeric(predictRisk(fit, newdata = test, times = horizon, cause = 1)), 6)
  test[[paste0("predicted_", horizon)]] <- predicted
  score <- Score(list(own = matrix(predicted)), Hist(time, cause) ~ 1, data = test, times = horizon, cause = 1,
                 metrics = c("auc", "brier"), summary = "ipa", conf.int = FALSE, cens.model = "km", null.model = TRUE)
  add("auc", horizon, score$AUC$score[model == "own"]$AUC)
  brier <- score$Brier$score
  add("brier", horizon, brier[model == "own"]$Brier)
  add("brier_null", horizon, brier[model == "Null model"]$Brier)
  add("ipa", horizon, brier[model == "own"]$IPA)
  incidence <- function(rows) {
    curve <- survfit(Surv(time, factor(cause, 0:2)) ~ 1, data = rows)
    read <- summary(curve, times = horizon)
    c(read$pstate[, 2], read$std.err[, 2])
  }
  add("incidence", horizon, incidence(test)[1])
  add("observed_expected", horizon, incidence(test)[1] / mean(predicted))
  for (threshold in c(0.15, 0.3)) {
    acted <- test[predicted >= threshold, ]
    hit <- incidence(acted)[1] * nrow(acted) / nrow(test)
    miss <- nrow(acted) / nrow(test) - hit
    add(paste0("net_benefit_", threshold), horizon, hit - miss * threshold / (1 - threshold))
  }
  fine <- as.numeric(predictRisk(fit, newdata = data.frame(x = c(-1, 0, 1), same = 0), times = horizon, cause = 1))
  for (k in 1:3) add(paste0("csc_", k), horizon, fine[k])
}
write.csv(data.frame(part = "training", train), file.path(folder, "inputs", "competing_training.csv"), row.names = FALSE)
write.csv(test, file.path(folder, "inputs", "competing_validation.csv"), row.names = FALSE)
write.csv(values, file.path(folder, "competing.csv"), row.names = FALSE, quote = FALSE)
