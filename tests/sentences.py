"""Every sentence that holds a measured number, and the numbers, computed from the record.

The sentences are written by hand, in the notebook and in the README; here they stand once more
with a name in place of each number, so that a test can hold the two against each other.
"""

import re

import numpy as np


def numbers(lesson, record):
    """Return {name: number}: means of paired differences, their half intervals, and more."""
    seconds = [run["made"]["seconds"] for run in record.values()]
    found = {"runs": len(record), "hours": sum(seconds) / 3600}
    record = record | lesson.slopes(record)

    def put(name, gaps, unit=1.0):
        mean, half = lesson.interval(unit * gaps)
        found[name], found[name + "_half"] = mean, half

    def runs_of(experiment, arm):
        return lesson.runs_of(record, experiment, arm)

    def one_side(sign, settings, measure, level):
        """True if the interval of CLS minus vanilla is on that side of zero in all settings."""
        gaps = [lesson.differences(record, name, measure) for name in settings]
        return all(sign * m > h for m, h in (lesson.interval(g, level) for g in gaps))

    def words_of(short, claims):
        return " or ".join(sorted({found[f"{name}, {short}"] for name in claims}))

    loss = lesson.final_loss
    names = {"ten": "ten sentences", "doc": "documented", "bytes": "bytes"}
    names |= {"epochs30": "ten sentences, 30 epochs", "sgd": "ten sentences, SGD"}
    names |= {"eps6": "ten sentences, eps 1e-6", "eps4": "ten sentences, eps 1e-4"}
    names |= {"v50": "ten sentences, vocabulary 50"}
    names |= {"v500": "ten sentences, vocabulary 500"}
    names |= {"w64": "bytes, width 64", "w256": "bytes, width 256"}
    names |= {"v5000": "ten sentences, vocabulary 5000"}
    names |= {"slow": "documented, rate 0.0003", "less": "bytes, 150 kB"}
    names |= {"plays": "all plays"}
    for short, name in names.items():
        unit = lesson.unit_of(name)[0]
        for arm in lesson.EXPERIMENTS[name].seeds:
            label = f"{short}_{arm}".replace(" ", "_").replace("-", "_")
            found[f"{label}_n"] = len(runs_of(name, arm))
            seeds = lesson.REPORT if name == "ten sentences" else range(100, 120)
            runs = [record.get((name, arm, seed)) for seed in seeds]
            found[f"{label}_loss"] = unit * np.mean([loss(r) for r in runs if r])
            if arm != "vanilla":
                gaps = lesson.differences(record, name, loss, arm)
                put(label, gaps, unit)
                found[f"{label}_used"] = len(gaps)
                found[f"{label}_behind"] = sum(gaps > 0)

    last = {
        arm: np.array(
            [record["ten sentences", arm, s]["last"][-1] for s in range(100, 120)]
        )
        for arm in ("vanilla", "CLS")
    }
    improvement = 1 - last["CLS"] / last["vanilla"]
    found["improvement_min"] = min(improvement)
    found["improvement_max"] = max(improvement)
    found["luck"] = 1 - min(last["vanilla"]) / max(last["vanilla"])
    split = {
        arm: np.mean([record["ten sentences", arm, s]["occurs"] for s in lesson.REPORT])
        for arm in ("vanilla", "CLS")
    }
    found["share_occurs"] = (split["vanilla"] - split["CLS"]) / -found["ten_CLS"]
    for arm in lesson.RATED:
        label = f"tuned_{arm}".replace("-", "_")
        rate = lesson.best_rate(record, arm)
        own = lesson.losses_at(record, rate, arm, lesson.REPORT)
        if arm == "vanilla":
            vanilla = own
        found[f"{label}_loss"] = np.mean(own)
        put(label, own - vanilla)
    found["tuned_gain"] = found["ten_vanilla_loss"] - found["tuned_vanilla_loss"]
    by_epoch = lesson.differences(
        record, "ten sentences, 30 epochs", lambda run: run["held_out"]
    ).mean(axis=0)
    found["deepest"], found["deepest_epoch"] = by_epoch.min(), by_epoch.argmin()
    for short, rate in (("rate1e3", "0.001"), ("rate1e4", "0.0001")):
        rate = f"ten sentences, rate {rate}"
        put(f"{short}_CLS", lesson.differences(record, rate, loss))
    for short in ("ten", "doc", "bytes", "slow"):
        runs = runs_of(names[short], "CLS")
        unit = lesson.unit_of(names[short])[0]
        for part in ("readout dropped", "column hidden"):
            mean = np.mean([run[part] - loss(run) for run in runs])
            label = f"{short}_{part}".replace(" ", "_")
            found[label], found[f"{label}_nats"] = unit * mean, mean
        put(f"{short}_flow", lesson.differences(record, names[short], lesson.flow))
        for arm in ("vanilla", "CLS"):
            heads = np.array(
                [run["attention"][0] for run in runs_of(names[short], arm)]
            )
            found[f"{short}_{arm}_first"] = heads.mean()
            found[f"{short}_{arm}_top"] = heads.max()
            found[f"{short}_{arm}_sink"] = (heads > 0.3).mean()
    for short in ("doc", "bytes"):
        for state in ("CLS", "mean"):
            runs = runs_of(names[short], "CLS")
            found[f"{short}_probe_{state}"] = np.mean([r["probe"][state] for r in runs])
        runs = runs_of(names[short], "vanilla")
        found[f"{short}_probe_vanilla"] = np.mean([r["probe"]["mean"] for r in runs])
    gaps = lesson.BITS * lesson.differences(record, "bytes", loss)
    found["bytes_CLS_sd"] = np.std(gaps, ddof=1)
    found["bytes_CLS_low"] = found["bytes_CLS"] - found["bytes_CLS_half"]
    found["bytes_CLS_high"] = found["bytes_CLS"] + found["bytes_CLS_half"]
    slopes = lesson.differences(record, lesson.WIDTHS, lambda run: run["slope"])
    put("slope", slopes, lesson.BITS)
    starts = {"bytes": ("CLS", "read-only", "constant"), "plays": ("CLS", "constant")}
    for short, arms in starts.items():
        name = names[short]
        for arm in arms:
            first = lesson.differences(record, name, lambda run: run["epoch"][0], arm)
            lead = -lesson.unit_of(name)[0] * first.mean()
            found[f"{short}_{arm}_lead".replace("-", "_")] = lead
    sizes = [len(lesson.as_bytes(name)) for name in lesson.TRAINING_PLAYS]
    found["megabytes"] = sum(sizes) / 1e6
    slow = names["slow"]
    for claim in lesson.CLAIMS:
        for experiment in claim.settings:
            word = lesson.judge(record, claim, experiment)[2]
            found[f"{claim.name}, {experiment}"] = word
        if "documented" in claim.settings:
            for short in ("slow", "plays"):
                word = lesson.judge(record, claim, names[short])[2]
                found[f"{claim.name}, {short}"] = word
    others = {"Lower final loss", "Consistent", "Generalizes"}
    others |= {"Attention uses it", "Better gradient flow"}
    inside = {"Faster", "Attention uses it", "Better gradient flow"}
    found["slow others"] = words_of("slow", others)
    found["plays others"] = words_of("plays", inside)
    uses = lesson.differences(record, "all plays", lesson.unseen_column)
    put("plays_uses", uses, lesson.unit_of("all plays")[0])
    per_byte = lesson.unit_of(slow)[0]
    for arm in lesson.FIVE[1:]:
        label = f"slow_{arm}"
        epochs = lesson.differences(record, slow, lambda run: run["epoch"], arm)
        put(f"{label}_last", epochs[:, -1], per_byte)
        found[f"{label}_gain"] = -per_byte * epochs.mean()
        early = lesson.differences(record, slow, lambda run: run["held_out"][1], arm)
        found[f"{label}_early"] = -per_byte * early.mean()
    first_ten = {job: run for job, run in record.items() if job[2] < 110}
    asked = [c for c in lesson.CLAIMS if "documented" in c.settings and c.measure]
    early = [lesson.judge(first_ten, claim, "documented")[2] for claim in asked]
    found["doc_open"] = early.count("not resolved")
    held_out = next(claim for claim in lesson.CLAIMS if claim.name == "Generalizes")
    for short in ("slow", "less", "w64"):
        for arm in lesson.EXPERIMENTS[names[short]].seeds.keys() - {"vanilla"}:
            word = lesson.judge(record, held_out, names[short], arm)[2]
            found[f"{short}_{arm}_word"] = word
    each = next(claim for claim in lesson.CLAIMS if claim.name == "Consistent")
    leads = one_side(-1, each.settings, lambda run: run["epoch"][0], 0.999)
    found["first epoch"] = "ahead" if leads else "not ahead"
    behind = one_side(1, held_out.settings, lambda run: run["held_out"][1], 0.995)
    found["first unseen"] = "behind in both" if behind else "not behind in both"
    words = [found.get(f"{claim.name}, ten sentences") for claim in lesson.CLAIMS]
    found["ten sentences hold"] = words.count("holds")
    macbeth = lesson.hamlet(lesson.GPTConfig(), 0)[1]
    hamlet = [lesson.PLAYS.texts["Hamlet"]]
    pairs = lesson.counted(hamlet, macbeth, 2, len(lesson.PLAYS.vocab))
    found["pairs_of_hamlet"] = lesson.BITS_PER_BYTE * pairs
    for arm in ("vanilla", "CLS"):
        runs = runs_of("documented", arm)
        found[f"doc_{arm}_stuck"] = sum(loss(run) > pairs for run in runs)
    plays = [lesson.PLAYS.texts[name] for name in lesson.TRAINING_PLAYS]
    pairs_of_all = lesson.counted(plays, macbeth, 2, len(lesson.PLAYS.vocab))
    found["pairs_of_all"] = lesson.BITS_PER_BYTE * pairs_of_all
    pilot = loss(record["all plays", "vanilla", 99])
    found["pilot"] = lesson.BITS_PER_BYTE * pilot
    return found


def written(place, found):
    """The sentence of a place with its numbers, and a minus sign where one belongs."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", SENTENCES[place].format(**found))


SENTENCES = {
    "verdicts-text": """By hand, for CLS as bytes in part 14: {bytes_CLS_used} differences with mean {bytes_CLS:.3f} and s = {bytes_CLS_sd:.3f} give 3.50 · {bytes_CLS_sd:.3f} / √12 = {bytes_CLS_half:.3f} (3.50 / √12 is about 1, so half the width is about s here). The interval runs from {bytes_CLS_low:.3f} to {bytes_CLS_high:.3f}: not inside ±0.02, and all of it above zero, where the loss is higher, so *{Generalizes, bytes}*.""",
    "reproduced-text": """All ten published values lie inside the spread of our 20 seeds: the table can be reproduced. By its measure CLS is ahead under each seed, by {improvement_min:.1%} to {improvement_max:.1%}. But luck alone is large too: vanilla "improves" on vanilla by up to {luck:.1%}, best seed against worst, when nothing but the seed and its text change.""",
    "cause-see": """Where the state is added there is a gain, with the token seen ({ten_CLS:+.2f} nats, `CLS`) or hidden ({ten_read_only:+.2f}, `read-only`). Where the token is only seen there is none: {ten_prepended:+.3f} ± {ten_prepended_half:.3f} (`prepended`), against {ten_placebo:+.3f} ± {ten_placebo_half:.3f} for the placebo. And no token is needed: a plain vector does as well ({ten_constant:+.2f}, `constant`), even if it never learns ({ten_frozen_constant:+.2f}) and even without one new parameter ({ten_ln_f_bias:+.2f}, `ln_f bias`). With all its length in one coordinate it brings only {ten_one_hot_constant:+.2f}. A plain `bias` brings {ten_bias:+.3f}; a bias scaled to move as fast as the constant brings what the constant brings ({ten_scaled_bias:+.2f}); and one that has the frequencies from the start beats them all ({ten_log_frequency_bias:+.2f}).

Of the gain of CLS, {share_occurs:.0%} lies in the first part of the loss: the model knows sooner which tokens occur at all. What causes the other half no arm of ours shows. But with a vocabulary of 50, where *which one?* is the whole loss, CLS gains nothing (part 13); so this half too may come from the words that never occur.""",
    "first-step-see": """Under this one seed the prediction from the states at birth holds, to an eighth or better, for all arms but one. CLS, `read-only`, `constant`, `frozen constant`, `ln_f bias` and the scaled bias move these logits four times as far in one update as vanilla does; the one-hot constant, as long but with one coordinate instead of 128, less than one and a half times; the plain bias adds one learning rate. For the log-frequency bias the prediction is a third too large: its gradients are so small from the start that the ε in Adam's division (10⁻⁸) counts; and there is nothing left to push down. Nobody covers 11.5 in 120 steps of the first size. While a model trains, its states learn to agree and the steps grow; but who starts four times as fast is ahead when the five epochs are over.""",
    "dose-see": """- (1) holds: with a vocabulary of 50, where every token occurs, CLS is behind ({v50_CLS:+.2f} nats; perhaps because its added state makes the first logits larger, and has nothing to push down). The gain grows with the tokens that never occur: {v500_CLS:+.2f} at 500, {v5000_CLS:+.2f} at 5,000, {ten_CLS:+.2f} at 50,257.
- (2) holds: at a rate of 1e-3 the gain is gone, and CLS is slightly behind ({rate1e3_CLS:+.3f} ± {rate1e3_CLS_half:.3f}); at 0.01 five seeds can't tell.
- (3) holds: CLS leads by most after epoch {deepest_epoch} ({deepest:+.2f}), and after 30 epochs the two are within the margin ({epochs30_CLS:+.4f} ± {epochs30_CLS_half:.4f}; vanilla ends at {epochs30_vanilla_loss:.3f} nats, so a gain as large as the margin was no longer possible).
- (4) holds for SGD, which steps by rate times gradient and divides by nothing (rate 0.03, momentum 0.9): CLS is behind ({sgd_CLS:+.2f}). But this SGD is also fast (vanilla ends at {sgd_vanilla_loss:.2f} nats), so it may have won by speed alone, as in (2).
- (4) fails for ε: at 1e-6 little changes ({eps6_CLS:+.2f}), as predicted; but at 1e-4, where the gain should have vanished, CLS leads by even more ({eps4_CLS:+.2f}). So large an ε makes all steps small, as a low rate does (at a rate of 1e-4 CLS is at {rate1e4_CLS:+.2f}), and both models are earlier on their way (vanilla is still at {eps4_vanilla_loss:.1f} nats), where the lead is largest. Division by the gradient's size is not the whole of it: what counts, we think, is how far the logits can get in 120 updates.

**Tuned**, every arm takes the same rate, ten times the released one, and vanilla ends at {tuned_vanilla_loss:.3f} nats where the released recipe left it at {ten_vanilla_loss:.2f}. CLS is not ahead any more: {tuned_CLS:+.3f} ± {tuned_CLS_half:.3f}, slightly behind, and inside the margin; though so near zero loss there is little left to gain.""",
    "learning-text": """**What we see.** As bytes, at width 128, vanilla ends at {bytes_vanilla_loss:.2f} bits per byte: below counted trigrams, so it knows more than the last two bytes, but not below counted four-grams, which have counted {megabytes:.1f} million bytes where the models have read 1.5 million; at width 256 both models are below them ({w256_vanilla_loss:.2f}). As documented {doc_vanilla_stuck} of {doc_vanilla_n} runs of vanilla and {doc_CLS_stuck} of {doc_CLS_n} of CLS end above counted pairs: they are still on the plateau of part 9. What such runs differ in says little about models that have learned. A rate of 1e-3 without a warm-up is too high there: at 0.0003 vanilla ends at {slow_vanilla_loss:.2f}, level with counted pairs ({pairs_of_hamlet:.2f}). On all plays vanilla ends at {plays_vanilla_loss:.2f} (its pilot at {pilot:.2f}), below pairs counted in the same plays ({pairs_of_all:.2f}).""",
    "gaps-see": """**As bytes**, at width 128, CLS ends {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte from vanilla, behind under {bytes_CLS_behind} of {bytes_CLS_n} seeds, though perhaps by less than the margin. The token alone costs nothing ({bytes_prepended:+.3f} ± {bytes_prepended_half:.3f}), a constant without a token next to nothing ({bytes_constant:+.3f} ± {bytes_constant_half:.3f}). `read-only` is at {bytes_read_only:+.3f} ± {bytes_read_only_half:.3f}: about as much as CLS, but six seeds do not resolve it. In the first epoch CLS is ahead, by {bytes_CLS_lead:.2f} bits per byte of training loss, as is `read-only` by {bytes_read_only_lead:.2f} and the constant by {bytes_constant_lead:.2f}: the head start of part 13; by update 250 it is gone (last panel). The placebo is vanilla to the last digit: without dropout there are no random numbers to differ in, so it tests nothing here.

CLS is at {w64_CLS:+.3f} ± {w64_CLS_half:.3f} at width 64 ({w64_CLS_word}), at {w256_CLS:+.3f} ± {w256_CLS_half:.3f} at 256 ({w256_CLS_used} seeds each). Whether the handicap depends on the width is not resolved (part 16), and why CLS is behind at all we do not know. With 150 kB of text, at width 128, it is at {less_CLS:+.3f} ± {less_CLS_half:.3f} ({less_CLS_used} seeds): {less_CLS_word}.

**On all plays**, one pass in the documented sizes with a warm-up, CLS is behind too: {plays_CLS:+.3f} ± {plays_CLS_half:.3f}, under {plays_CLS_behind} of {plays_CLS_used} seeds, and again perhaps by less than the margin. The constant ends within the margin ({plays_constant:+.3f} ± {plays_constant_half:.3f}; no placebo was run). In the first fifth of the pass both were ahead in training, by {plays_CLS_lead:.2f} and {plays_constant_lead:.2f}.

**As documented**, where no placebo was planned, CLS ends behind as well, {doc_CLS:+.3f} ± {doc_CLS_half:.3f} ({doc_CLS_used} seeds, of which part 9's pair is the first, trained again); prepended ({doc_prepended:+.3f} ± {doc_prepended_half:.3f}) and the constant ({doc_constant:+.3f} ± {doc_constant_half:.3f}), with ten seeds, can't be told from vanilla.

**At a rate of 0.0003** the seeds scatter far less, and the placebo, which there draws random numbers of its own, ends {slow_placebo_word} to vanilla on unseen text. So do prepended ({slow_prepended_word}) and the constant ({slow_constant_word}); CLS, at {slow_CLS:+.3f} ± {slow_CLS_half:.3f}, is {slow_CLS_word}. But the head start of part 13 is there too, and no token is needed for it: after epoch 1 CLS is ahead on unseen text by {slow_CLS_early:.2f}, the constant by {slow_constant_early:.2f}; in training loss, over all epochs, by {slow_CLS_gain:.2f} and {slow_constant_gain:.2f}. In the last epoch their lead in training is down to {slow_CLS_last:+.3f} ± {slow_CLS_last_half:.3f} and {slow_constant_last:+.3f} ± {slow_constant_last_half:.3f}.""",
    "worth-see": """**What we see.** A trained CLS model relies on its readout: without it the loss rises by {ten_readout_dropped:.1f} nats on the ten sentences, and by {bytes_readout_dropped_nats:.2f} nats as bytes. As bytes it uses the column too: hidden, the loss rises by {bytes_column_hidden_nats:.3f} nats ({bytes_column_hidden:.3f} bits per byte); on the ten sentences by {ten_column_hidden:.3f} nats, next to nothing. But to use is not to gain: `prepended` has the same place to rest attention on, and is not better than vanilla (part 14). In part 9's CLS model (middle panel, one run) the column of CLS is nearly black: it draws attention as a sink does. In all documented runs {doc_CLS_sink:.0%} of the heads give CLS more than 0.3, and {doc_vanilla_sink:.0%} of vanilla's the first token. In the byte models it is milder: CLS draws {bytes_CLS_first:.1%} of all attention, the first token of vanilla {bytes_vanilla_first:.1%}; an even share is 7.4% (the mean of 1, 1/2 … 1/64). No head gives it more than {bytes_CLS_top:.2f}, so by the count of heads above 0.3 it is no sink there.

Nowhere are the gradients seen to flow better: the ratio moves by {ten_flow:+.3f} ± {ten_flow_half:.3f} on the ten sentences ({Better gradient flow, ten sentences}), by {bytes_flow:+.2f} ± {bytes_flow_half:.2f} as bytes ({Better gradient flow, bytes}), and by {doc_flow:+.2f} ± {doc_flow_half:.2f} as documented ({Better gradient flow, documented}): a smaller share reaches the first block; but at a rate of 0.0003 that is not seen ({slow_flow:+.2f} ± {slow_flow_half:.2f}).""",
    "represent-see": """The probe scores chance on the state of CLS, exactly, in every run. The mean of all states knows a little ({doc_probe_mean:.1%} and {bytes_probe_mean:.1%}; without CLS {doc_probe_vanilla:.1%} and {bytes_probe_vanilla:.1%}). Where there are words to count, plain counts beat every state of these small models by far; as bytes they do not. So the remedy for a representation is not another token: count words, or train a larger model and pool its states (which we did not test).""",
    "claims-see": """**What we see.**

- *As published* {ten sentences hold} claims hold, and by far: lower ({Lower final loss, ten sentences}), in every epoch ({Consistent, ten sentences}) and faster ({Faster, ten sentences}). But the constant alone does better than the token with its constant, so "beats a constant" comes out *{Beats a constant, ten sentences}*; attention *{Attention uses it, ten sentences}*, gradient flow *{Better gradient flow, ten sentences}*.
- *As documented* ({doc_CLS_used} seeds; the constant has ten), at a rate that is too high, CLS is ahead in the first epoch and behind after it: final training loss *{Lower final loss, documented}*, "consistent" *{Consistent, documented}*, "faster" *{Faster, documented}*, unseen text *{Generalizes, documented}*, gradient flow *{Better gradient flow, documented}*; attention *{Attention uses it, documented}*, "beats a constant" *{Beats a constant, documented}*. With the first ten seeds {doc_open} of these seven were *not resolved*. At a rate of 0.0003, with six seeds and outside the 21 comparisons, "faster" would come out *{Faster, slow}*, "beats a constant" *{Beats a constant, slow}*, and the five others *{slow others}*.
- *Where models learn*, at width 128, CLS ends with a higher loss, perhaps by less than the margin (final training loss *{Lower final loss, bytes}*, unseen text *{Generalizes, bytes}*, against the constant *{Beats a constant, bytes}*). It is ahead in the first of the five epochs, then behind: "consistent" comes out *{Consistent, bytes}*, and "faster", the mean of all five, *{Faster, bytes}*: the early lead cancels the later lag. (In training loss, in epoch 1 alone, CLS is {first epoch} in all three settings; on unseen text after it, it is {first unseen}.) With each doubling of the width its difference to vanilla moves by {slope:+.3f} ± {slope_half:.3f} bits per byte, so "scales" comes out *{Scales, bytes, widths}*; what may shrink is a handicap, and at width 256 CLS is within the margin, not ahead. Attention uses the token ({Attention uses it, bytes}): the trained model depends on it, though not to a gain. After one pass over all plays (six seeds, outside the 21 comparisons) the same words come out for the final training loss (*{Lower final loss, plays}*), "consistent" (*{Consistent, plays}*), unseen text (*{Generalizes, plays}*) and "beats a constant" (*{Beats a constant, plays}*). "Faster", attention and gradient flow lie within the margin there, which without a placebo is *{plays others}*: that attention uses the token is not seen again (hiding it costs {plays_uses:+.3f} ± {plays_uses_half:.3f}).
- *Everywhere*, to read something about the input out of CLS is *{Represents the input, bytes}*: both claims that need it fall.

**What to do instead.** Tune the learning rate: that alone is worth {tuned_gain:.2f} nats on the ten sentences, more than twice what CLS brings. If an early gain matters, give the head a bias and start it at the log-frequencies of the training tokens: {ten_log_frequency_bias:+.2f} nats at the released rate, without any token (not run at the tuned rate, nor on unseen text).

**Take away:** a claim is a question; give each one an experiment that could say no.""",
    "close": """The published number can be reproduced: it lies among those of our 20 seeds. What causes it is not the token but a constant added to every state: {ten_constant:+.2f} nats without any token, {ten_CLS:+.2f} with both, {ten_prepended:+.2f} for the token alone. The constant gives the optimizer a lever on the logits, among them those of the 50,207 tokens that never occur. (Whether Adam's division is the reason was not settled: part 13.) The gain is gone when every token occurs ({v50_CLS:+.2f}), when training goes on ({epochs30_CLS:+.4f} after 30 epochs, when little loss is left), and when the rate is tuned ({tuned_CLS:+.3f}). On unseen plays CLS is behind as documented, after one pass over all plays, and as bytes at widths 64 and 128; as bytes at width 256 it is within the margin (part 14). And a token in front of a causal model can represent nothing about the input, for it sees only itself.""",
    "front": """The published number can be reproduced, but it is not the token's doing. On ten short sentences like those of the published notebook the plain model ends at a loss of {ten_vanilla_loss:.2f} nats (less is better; over all its text, without dropout). CLS changes that by {ten_CLS:+.2f}, the token alone by {ten_prepended:+.2f}, and a constant added to every state, without any token, by {ten_constant:+.2f}. There the constant makes training faster at first. With a tuned learning rate, or after 30 epochs, the gain is gone. On unseen plays no gain is found: CLS ends behind in the setting that the README documents, after one pass over all plays, and as bytes at two widths of the model; at the largest it is within the margin (behind by hundredths of a bit per byte, all at rates that were not tuned). (In the README's setting at a lower rate both CLS and the constant alone learn faster at first; neither is seen to end ahead on unseen text.) And in front of a model that reads from left to right the token sees only itself, so it can represent nothing about the input. (Parts 14 and 16 have the intervals; parts 3 to 10 explain the words.)""",
    "README answer": """- **The published number can be reproduced.** All ten values of its table lie inside the spread of our 20 seeds.
- **It is not the token's doing.** A constant added to every state changes the loss by {ten_constant:+.2f} nats without any token; the token alone by {ten_prepended:+.2f}, both together by {ten_CLS:+.2f}. There the constant makes training faster at first; of what CLS gains, about half is to learn which words never occur.
- **It does not last.** With a tuned learning rate the difference is {tuned_CLS:+.3f} ± {tuned_CLS_half:.3f} nats, after 30 epochs {epochs30_CLS:+.4f}. On unseen plays no gain is found: as bytes {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte at width 128, slightly worse, and {w256_CLS:+.3f} ± {w256_CLS_half:.3f} at width 256; after one pass over all plays as tokens {plays_CLS:+.3f} ± {plays_CLS_half:.3f} (99.5 % intervals). In the sizes that its README documents, at its rate, it ends behind ({doc_CLS:+.3f} ± {doc_CLS_half:.3f}); at 0.0003 it has a head start, as has the constant alone, and ends at {slow_CLS:+.3f} ± {slow_CLS_half:.3f}.
- **The token can represent nothing about the input:** in front of a causal model it sees only itself. Its state was the same for every input in every run.""",
    "README record": """The {runs} runs of the study took {hours:.1f} hours of one core.""",
}
