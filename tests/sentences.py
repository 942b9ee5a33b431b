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

    loss = lesson.final_loss
    names = {"ten": "ten sentences", "doc": "documented", "bytes": "bytes"}
    names |= {"epochs30": "ten sentences, 30 epochs", "sgd": "ten sentences, SGD"}
    names |= {"eps6": "ten sentences, eps 1e-6", "eps4": "ten sentences, eps 1e-4"}
    names |= {"v50": "ten sentences, vocabulary 50"}
    names |= {"v500": "ten sentences, vocabulary 500"}
    names |= {"w64": "bytes, width 64", "w256": "bytes, width 256"}
    names |= {"v5000": "ten sentences, vocabulary 5000"}
    names |= {"slow": "documented, rate 0.0003", "less": "bytes, 150 kB"}
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

    last = {
        arm: np.array(
            [record["ten sentences", arm, s]["last"][-1] for s in range(100, 120)]
        )
        for arm in ("vanilla", "CLS")
    }
    improvement = 1 - last["CLS"] / last["vanilla"]
    found["improvement_min"], found["improvement_max"] = (
        min(improvement),
        max(improvement),
    )
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
    for short in ("doc", "bytes"):
        for state in ("CLS", "mean"):
            runs = runs_of(names[short], "CLS")
            found[f"{short}_probe_{state}"] = np.mean([r["probe"][state] for r in runs])
        runs = runs_of(names[short], "vanilla")
        found[f"{short}_probe_vanilla"] = np.mean([r["probe"]["mean"] for r in runs])
    gaps = lesson.BITS * lesson.differences(record, "bytes", loss)
    found["bytes_CLS_behind"], found["bytes_CLS_sd"] = (
        sum(gaps > 0),
        np.std(gaps, ddof=1),
    )
    found["bytes_CLS_low"] = found["bytes_CLS"] - found["bytes_CLS_half"]
    found["bytes_CLS_high"] = found["bytes_CLS"] + found["bytes_CLS_half"]
    slopes = lesson.differences(record, lesson.WIDTHS, lambda run: run["slope"])
    put("slope", slopes, lesson.BITS)
    epochs = lesson.differences(record, "bytes", lambda run: run["epoch"]).mean(axis=0)
    found["bytes_lead"] = -lesson.BITS * epochs[0]
    losses = [lesson.BITS * loss(run) for run in runs_of("bytes", "vanilla")]
    found["bytes_vanilla_sd"] = np.std(losses, ddof=1)
    sizes = [len(lesson.as_bytes(name)) for name in lesson.TRAINING_PLAYS]
    found["megabytes"] = sum(sizes) / 1e6
    slow = names["slow"]
    for claim in lesson.CLAIMS:
        for experiment in claim.settings:
            word = lesson.judge(record, claim, experiment)[2]
            found[f"{claim.name}, {experiment}"] = word
        if "documented" in claim.settings:
            found[f"{claim.name}, slow"] = lesson.judge(record, claim, slow)[2]
    per_byte, margin = lesson.unit_of(slow)
    for arm in lesson.FIVE[1:]:
        label = f"slow_{arm}"
        epochs = lesson.differences(record, slow, lambda run: run["epoch"], arm)
        put(f"{label}_train", epochs.mean(axis=1), per_byte)
        put(f"{label}_last", epochs[:, -1], per_byte)
    found["slow_CLS_gain"] = -found["slow_CLS_train"]
    low = found["doc_CLS"] - found["doc_CLS_half"]
    found["doc_gain"] = "exclude" if low > -margin else "do not exclude"
    held_out = next(claim for claim in lesson.CLAIMS if claim.name == "Generalizes")
    for short in ("slow", "less", "w64"):
        for arm in lesson.EXPERIMENTS[names[short]].seeds.keys() - {"vanilla"}:
            word = lesson.judge(record, held_out, names[short], arm)[2]
            found[f"{short}_{arm}_word"] = word
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
    "verdicts-text": """By hand, for CLS as bytes in part 14: {bytes_CLS_used} differences with mean {bytes_CLS:.3f} and s = {bytes_CLS_sd:.3f} give 3.50 · {bytes_CLS_sd:.3f} / √12 = {bytes_CLS_half:.3f}. The interval runs from {bytes_CLS_low:.3f} to {bytes_CLS_high:.3f}: not inside ±0.02, and all of it above zero, where the loss is higher, so *{Generalizes, bytes}*.""",
    "reproduced-text": """All ten published values lie inside the spread of our 20 seeds: the table can be reproduced. By its measure CLS is ahead under each seed, by {improvement_min:.1%} to {improvement_max:.1%}. But luck alone is large too: vanilla "improves" on vanilla by up to {luck:.1%}, best seed against worst, when nothing but the seed and its text change.""",
    "cause-see": """Where the state is added there is a gain, with the token seen ({ten_CLS:+.2f} nats, `CLS`) or hidden ({ten_read_only:+.2f}, `read-only`). Where the token is only seen there is none: {ten_prepended:+.3f} ± {ten_prepended_half:.3f} (`prepended`), against {ten_placebo:+.3f} ± {ten_placebo_half:.3f} for the placebo. And no token is needed: a plain vector does as well ({ten_constant:+.2f}, `constant`), even if it never learns ({ten_frozen_constant:+.2f}) and even without one new parameter ({ten_ln_f_bias:+.2f}, `ln_f bias`). With all its length in one coordinate it brings only {ten_one_hot_constant:+.2f}. A plain `bias` brings {ten_bias:+.3f}; a bias scaled to move as fast as the constant brings what the constant brings ({ten_scaled_bias:+.2f}); and one that has the frequencies from the start beats them all ({ten_log_frequency_bias:+.2f}).

Of the gain of CLS, {share_occurs:.0%} lies in the first part of the loss: the model knows sooner which tokens occur at all, as a table of counts does from the start. What causes the other half no arm of ours shows. But with a vocabulary of 50, where *which one?* is the whole loss, CLS gains nothing (part 13); so this half too may come from the words that never occur.""",
    "first-step-see": """Under this one seed the prediction from the states at birth holds, to an eighth or better, for all arms but one. CLS, `read-only`, `constant`, `frozen constant`, `ln_f bias` and the scaled bias move these logits four times as far in one update as vanilla does; the one-hot constant, as long but with one coordinate instead of 128, less than one and a half times; the plain bias adds one learning rate. For the log-frequency bias the prediction is a third too large: its gradients are so small from the start that the ε in Adam's division (10⁻⁸) counts; and there is nothing left to push down. Nobody covers 11.5 in 120 steps of the first size. While a model trains, its states learn to agree and the steps grow; but who starts four times as fast is ahead when the five epochs are over.""",
    "dose-see": """- (1) holds: with a vocabulary of 50, where every token occurs, CLS is behind ({v50_CLS:+.2f} nats; perhaps because its added state makes the first logits larger, and has nothing to push down). The gain grows with the tokens that never occur: {v500_CLS:+.2f} at 500, {v5000_CLS:+.2f} at 5,000, {ten_CLS:+.2f} at 50,257.
- (2) holds: at a rate of 1e-3 the gain is gone, and CLS is slightly behind ({rate1e3_CLS:+.3f} ± {rate1e3_CLS_half:.3f}); at 0.01 five seeds can't tell.
- (3) holds: CLS leads by most after epoch {deepest_epoch} ({deepest:+.2f}), and after 30 epochs the two are within the margin ({epochs30_CLS:+.4f} ± {epochs30_CLS_half:.4f}).
- (4) holds for SGD, which steps by rate times gradient and divides by nothing (rate 0.03, momentum 0.9): CLS is behind ({sgd_CLS:+.2f}). But this SGD is also fast (vanilla ends at {sgd_vanilla_loss:.2f} nats), so it can't tell (4) from (2).
- (4) fails for ε: at 1e-6, below the gradients, little changes ({eps6_CLS:+.2f}), as it should; but at 1e-4, above them, CLS leads by even more ({eps4_CLS:+.2f}), where the gain should have vanished. So large an ε makes all steps small, as a low rate does (at a rate of 1e-4 CLS is at {rate1e4_CLS:+.2f}), and both models are earlier on their way (vanilla is still at {eps4_vanilla_loss:.1f} nats), where the lead is largest. Division by the gradient's size is not the whole of it: what counts, we think, is how far the logits can get in 120 updates.

**Tuned**, every arm takes the same rate, ten times the released one, and vanilla ends at {tuned_vanilla_loss:.3f} nats where the released recipe left it at {ten_vanilla_loss:.2f}. CLS is not ahead any more: {tuned_CLS:+.3f} ± {tuned_CLS_half:.3f}, slightly behind, and inside the margin; though so near zero loss there is little left to gain.""",
    "learning-text": """**What we see.** As bytes, at width 128, vanilla ends at {bytes_vanilla_loss:.2f} bits per byte: below counted trigrams, so it knows more than the last two bytes, but not below counted four-grams, which have counted {megabytes:.1f} million bytes where the models have read 1.5 million; at width 256 both models are below them ({w256_vanilla_loss:.2f}). As documented {doc_vanilla_stuck} of {doc_vanilla_n} runs of vanilla and {doc_CLS_stuck} of {doc_CLS_n} of CLS end above counted pairs: they are still on the plateau on which a model knows little more than how often each token occurs. What such runs differ in says little about models that have learned. A rate of 1e-3 without a warm-up is too high there: at 0.0003 vanilla ends at {slow_vanilla_loss:.2f}, level with counted pairs ({pairs_of_hamlet:.2f}). The pilot on all plays ends at {pilot:.2f}, below pairs counted in the same plays ({pairs_of_all:.2f}), so the 18 runs that wait for it are worth making; most are not made yet.""",
    "gaps-see": """**As bytes**, at width 128, CLS ends {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte from vanilla, behind under {bytes_CLS_behind} of {bytes_CLS_n} seeds (from seed to seed vanilla's own loss varies with a standard deviation of {bytes_vanilla_sd:.3f}). The token alone costs nothing ({bytes_prepended:+.3f} ± {bytes_prepended_half:.3f}), a constant without a token next to nothing ({bytes_constant:+.3f} ± {bytes_constant_half:.3f}). Adding the state of a token that nobody sees, `read-only`, is at {bytes_read_only:+.3f} ± {bytes_read_only_half:.3f}: about as much as CLS, but six seeds do not resolve it. In the first epoch CLS is ahead, by {bytes_lead:.2f} bits per byte of training loss, the head start of part 13; by update 250 that is gone (last panel). The placebo is vanilla to the last digit: without dropout there are no random numbers to differ in, so it tests nothing here.

CLS is at {w64_CLS:+.3f} ± {w64_CLS_half:.3f} at width 64 ({w64_CLS_word}), at {w256_CLS:+.3f} ± {w256_CLS_half:.3f} at 256 ({w256_CLS_used} seeds each). Whether the handicap depends on the width is not resolved (part 16), and why CLS is behind at all we do not know. With 150 kB of text, at width 128, it is at {less_CLS:+.3f} ± {less_CLS_half:.3f} ({less_CLS_used} seeds): {less_CLS_word}.

**As documented**, where no placebo was planned, no difference in the final held-out loss is resolved: CLS {doc_CLS:+.3f} ± {doc_CLS_half:.3f} bits per byte, {doc_CLS_used} seeds, of which part 9's pair is the first, trained again (last digits differ). **At a rate of 0.0003** the seeds scatter far less, and the placebo, which there draws random numbers of its own, comes out {slow_placebo_word} to vanilla: {slow_placebo:+.3f} ± {slow_placebo_half:.3f} ({slow_CLS_used} seeds each). So do prepended ({slow_prepended:+.3f} ± {slow_prepended_half:.3f}: {slow_prepended_word}) and the constant ({slow_constant:+.3f} ± {slow_constant_half:.3f}: {slow_constant_word}). CLS is at {slow_CLS:+.3f} ± {slow_CLS_half:.3f}: {slow_CLS_word}. But in *training* loss, mean of the five epochs, CLS is ahead there, {slow_CLS_train:+.3f} ± {slow_CLS_train_half:.3f}, and so is the constant, {slow_constant_train:+.3f} ± {slow_constant_train_half:.3f} (placebo {slow_placebo_train:+.3f} ± {slow_placebo_train_half:.3f}): the head start of part 13 in another setting, and no token is needed for it. In the last epoch CLS is at {slow_CLS_last:+.3f} ± {slow_CLS_last_half:.3f}, the constant at {slow_constant_last:+.3f} ± {slow_constant_last_half:.3f}; on unseen text neither lead is seen.""",
    "worth-see": """**What we see.** A trained CLS model relies on its readout: without it the loss rises by {ten_readout_dropped:.1f} nats on the ten sentences, and by {bytes_readout_dropped_nats:.2f} nats as bytes. As bytes it uses the column too: hidden, the loss rises by {bytes_column_hidden_nats:.3f} nats ({bytes_column_hidden:.3f} bits per byte); on the ten sentences by {ten_column_hidden:.3f} nats, next to nothing. But to use is not to gain: `prepended` has the same place to rest attention on, and is not better than vanilla (part 14). In part 9's CLS model (middle panel: one run, the mean of the heads of the first block) the column of CLS is nearly black: it draws attention as a sink does. In the byte models it is milder: CLS draws {bytes_CLS_first:.1%} of all attention, the first token of vanilla {bytes_vanilla_first:.1%}; an even share is 7.4% (the mean of 1, 1/2 … 1/64). No head gives it more than {bytes_CLS_top:.2f}, so by the count of heads above 0.3 it is no sink there.

Nowhere are the gradients seen to flow better: the ratio moves by {ten_flow:+.3f} ± {ten_flow_half:.3f} on the ten sentences ({Better gradient flow, ten sentences}), by {bytes_flow:+.2f} ± {bytes_flow_half:.2f} as bytes ({Better gradient flow, bytes}), and by {doc_flow:+.2f} ± {doc_flow_half:.2f} as documented ({Better gradient flow, documented}): a smaller share reaches the first block; but at a rate of 0.0003 that is not seen ({slow_flow:+.2f} ± {slow_flow_half:.2f}).""",
    "represent-see": """The probe scores chance on the state of CLS, exactly, in every run. The mean of all states knows a little ({doc_probe_mean:.1%} and {bytes_probe_mean:.1%}; without CLS {doc_probe_vanilla:.1%} and {bytes_probe_vanilla:.1%}). Where there are words to count, plain counts beat every state of these small models by far; as bytes they do not. So the remedy for a representation is not another token: count words, or train a larger model and pool its states (which we did not test).""",
    "claims-see": """**What we see.**

- *As published* {ten sentences hold} claims hold, and by far: lower ({Lower final loss, ten sentences}), in every epoch ({Consistent, ten sentences}) and faster ({Faster, ten sentences}). But the constant alone does better than the token with its constant, so parameter efficiency comes out {Parameter-efficient, ten sentences}; attention {Attention uses it, ten sentences}, gradient flow {Better gradient flow, ten sentences}.
- *As documented* ({doc_CLS_n} of 20 planned seeds) the seeds scatter too much to settle the final loss ({Lower final loss, documented}) or generalization ({Generalizes, documented}); "consistent" comes out {Consistent, documented} (CLS is ahead in the first epoch and clearly behind in the second), gradient flow {Better gradient flow, documented}. At a rate of 0.0003, with six seeds and outside the 21 comparisons, "faster" would come out {Faster, slow}, the final training loss {Lower final loss, slow}, generalization {Generalizes, slow}, parameter efficiency {Parameter-efficient, slow}.
- *Where models learn*, at width 128, CLS ends with a higher loss (final training loss {Lower final loss, bytes}, unseen text {Generalizes, bytes}, against the constant {Parameter-efficient, bytes}). It is ahead in the first of the five epochs, then behind: "consistent" comes out {Consistent, bytes}, and "faster", the mean of all five, {Faster, bytes}. With each doubling of the width its difference to vanilla moves by {slope:+.3f} ± {slope_half:.3f} bits per byte, so "scales" comes out {Scales, bytes, widths}; what may shrink is a handicap, and at width 256 CLS is within the margin, not ahead. Attention uses the token ({Attention uses it, bytes}), though not to a gain.
- *Everywhere*, to read something about the input out of CLS is {Represents the input, bytes}: both claims that need it fall, and that needs no statistics.

**What to do instead.** Tune the learning rate: that alone is worth {tuned_gain:.2f} nats on the ten sentences, more than twice what CLS brings. If an early gain matters, give the head a bias and start it at the log-frequencies of the training tokens: {ten_log_frequency_bias:+.2f} nats at the released rate, without any token (not run at the tuned rate, nor on unseen text). For a representation, see part 15.

**Take away:** a claim is a question; give each one an experiment that could say no.""",
    "close": """The published number can be reproduced: it lies among those of our 20 seeds. What causes it is not the token but a constant added to every state: {ten_constant:+.2f} nats without any token, {ten_CLS:+.2f} with both, {ten_prepended:+.2f} for the token alone. The constant gives the optimizer a lever on the logits, among them those of the 50,207 tokens that never occur. (Whether Adam's division is the reason was not settled: a large ε did not remove the gain, and our SGD was too fast to tell.) The gain is gone when every token occurs ({v50_CLS:+.2f}), when training goes on ({epochs30_CLS:+.4f} after 30 epochs), and when the rate is tuned ({tuned_CLS:+.3f}). On unseen plays, as bytes, CLS is slightly behind at widths 64 and 128 ({w64_CLS:+.3f} ± {w64_CLS_half:.3f} and {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte) and within the margin at 256 ({w256_CLS:+.3f} ± {w256_CLS_half:.3f}). And a token in front of a causal model can represent nothing, for it sees nothing. Tune the learning rate first; if you want the head start, give the head a bias that starts at the log-frequencies (tried on the ten sentences only).""",
    "front": """The published number can be reproduced, but it is not the token's doing. On ten short sentences like those of the published notebook the plain model ends at a loss of {ten_vanilla_loss:.2f} nats (less is better). CLS changes that by {ten_CLS:+.2f}, the token alone by {ten_prepended:+.2f}, and a constant added to every state, without any token, by {ten_constant:+.2f}: there it makes training faster at first. With a tuned learning rate, or after 30 epochs, the gain is gone. On unseen plays, read as bytes, no gain is found: CLS ends slightly behind at two widths of the model and within the margin at the largest; in the setting that the README documents our {doc_CLS_used} seeds {doc_gain} a gain as large as the margin. (At a lower rate CLS trains faster there, and so does the constant alone; on unseen text neither is seen to be ahead.) And in front of a model that reads from left to right the token sees nothing, so it can represent nothing. (Parts 14 and 16 have the intervals; parts 3 to 10 explain the words.)""",
    "README answer": """- **The published number can be reproduced.** All ten values of its table lie inside the spread of our 20 seeds.
- **It is not the token's doing.** A constant added to every state changes the loss by {ten_constant:+.2f} nats without any token; the token alone by {ten_prepended:+.2f}, both together by {ten_CLS:+.2f}. There the constant makes training faster at first; of what CLS gains, about half is to learn which words never occur.
- **It does not last.** With a tuned learning rate the difference is {tuned_CLS:+.3f} ± {tuned_CLS_half:.3f} nats, after 30 epochs {epochs30_CLS:+.4f}. On unseen plays, read as bytes, no gain is found: {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte at width 128, slightly worse, and {w256_CLS:+.3f} ± {w256_CLS_half:.3f} at width 256 (99.5 % intervals). In the README's sizes at a rate of 0.0003 it lowers the training loss, mean of five epochs, by {slow_CLS_gain:.2f} bits per byte, and so does the constant alone; on unseen text it is at {slow_CLS:+.3f} ± {slow_CLS_half:.3f}.
- **The token can represent nothing:** in front of a causal model it sees only itself. Its state was the same for every input in every run.""",
    "README record": """The {runs} runs in the record so far took {hours:.1f} hours of one core.""",
}
