"""Every sentence that holds a measured number, and the numbers, computed from the record.

The sentences are written by hand, in the notebook and in the README; here they stand once more
with a name in place of each number, so that a test can hold the two against each other.
"""

import numpy as np


def numbers(lesson, record):
    """Return {name: number}: means of paired differences, their half intervals, and more."""
    found = {}

    def put(name, gaps, unit=1.0):
        mean, half = lesson.interval(unit * gaps)
        found[name], found[name + "_half"] = mean, half

    def runs_of(experiment, arm):
        return [run for key, run in record.items() if key[:2] == (experiment, arm)]

    def loss_of(experiment, arm, seeds):
        return np.mean([record[experiment, arm, s]["held_out"][-1] for s in seeds])

    loss = lesson.final_loss
    names = {"ten": "ten sentences", "doc": "documented", "bytes": "bytes"}
    names |= {"epochs30": "ten sentences, 30 epochs", "sgd": "ten sentences, SGD"}
    names |= {"eps6": "ten sentences, eps 1e-6", "eps4": "ten sentences, eps 1e-4"}
    names |= {"v50": "ten sentences, vocabulary 50"}
    names |= {"v500": "ten sentences, vocabulary 500"}
    names |= {"v5000": "ten sentences, vocabulary 5000"}
    for short, name in names.items():
        unit = lesson.UNITS.get(name, (1.0, None))[0]
        for arm in lesson.EXPERIMENTS[name].seeds:
            label = f"{short}_{arm}".replace(" ", "_").replace("-", "_")
            found[f"{label}_n"] = len(runs_of(name, arm))
            found[f"{label}_loss"] = unit * np.mean(
                [loss(r) for r in runs_of(name, arm)]
            )
            if arm != "vanilla":
                put(label, lesson.differences(record, name, loss, arm), unit)

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
    tuned = "ten sentences, rate 0.003"
    for arm in lesson.RATED:
        label = f"tuned_{arm}".replace("-", "_")
        found[f"{label}_loss"] = loss_of(tuned, arm, lesson.REPORT)
        own = [loss(record[tuned, arm, s]) for s in lesson.REPORT]
        put(
            label,
            np.subtract(
                own, [loss(record[tuned, "vanilla", s]) for s in lesson.REPORT]
            ),
        )
    found["tuned_gain"] = found["ten_vanilla_loss"] - found["tuned_vanilla_loss"]
    by_epoch = lesson.differences(
        record, "ten sentences, 30 epochs", lambda run: run["held_out"]
    ).mean(axis=0)
    found["deepest"], found["deepest_epoch"] = by_epoch.min(), by_epoch.argmin()
    rate = "ten sentences, rate 0.001"
    put("rate1e3_CLS", lesson.differences(record, rate, loss))
    found["hours"] = sum(run["made"]["seconds"] for run in record.values()) / 3600
    found["runs"] = len(record)
    for short in ("ten", "doc", "bytes"):
        runs = runs_of(names[short], "CLS")
        unit = lesson.UNITS[names[short]][0]
        for part in ("readout dropped", "column hidden"):
            mean = np.mean([run[part] - loss(run) for run in runs])
            found[f"{short}_{part}".replace(" ", "_")] = unit * mean
        put(f"{short}_flow", lesson.differences(record, names[short], lesson.flow))
        for arm in ("vanilla", "CLS"):
            heads = np.array(
                [run["attention"][0] for run in runs_of(names[short], arm)]
            )
            found[f"{short}_{arm}_first"] = heads.mean()
            found[f"{short}_{arm}_sinks"] = np.mean(heads > 0.3)
    for short in ("doc", "bytes"):
        for state in ("CLS", "mean"):
            runs = runs_of(names[short], "CLS")
            found[f"{short}_probe_{state}"] = np.mean([r["probe"][state] for r in runs])
        runs = runs_of(names[short], "vanilla")
        found[f"{short}_probe_vanilla"] = np.mean([r["probe"]["mean"] for r in runs])
    for claim in lesson.CLAIMS:
        for experiment in claim.settings:
            word = lesson.judge(record, claim, experiment)[2]
            found[f"{claim.name}, {experiment}"] = word
    pairs = lesson.counted(
        [lesson.PLAYS.texts["Hamlet"]],
        [lesson.PLAYS.texts["Macbeth"]],
        2,
        len(lesson.PLAYS.vocab),
    )
    for arm in ("vanilla", "CLS"):
        runs = runs_of("documented", arm)
        found[f"doc_{arm}_stuck"] = sum(loss(run) > pairs for run in runs)
    return found


SENTENCES = {
    "reproduced-text": """All ten published values lie inside the spread of our 20 seeds: the table can be reproduced. By its measure CLS is ahead under each seed, by {improvement_min:.1%} to {improvement_max:.1%}. But luck alone is large too: vanilla "improves" on vanilla by up to {luck:.1%}, best seed against worst, when nothing but the seed and its text change.""",
    "cause-see": """Where the state is added there is a gain, with the token seen ({ten_CLS:+.2f} nats, `CLS`) or hidden ({ten_read_only:+.2f}, `read-only`). Where the token is only seen there is none: {ten_prepended:+.3f} ± {ten_prepended_half:.3f} (`prepended`), against {ten_placebo:+.3f} ± {ten_placebo_half:.3f} for the placebo. And no token is needed: a plain vector does as well ({ten_constant:+.2f}, `constant`), even if it never learns ({ten_frozen_constant:+.2f}) and even without one new parameter ({ten_ln_f_bias:+.2f}, `ln_f bias`). With all its length in one coordinate it brings only {ten_one_hot_constant:+.2f}. A plain `bias` brings {ten_bias:+.3f}; a bias scaled to move as fast as the constant brings what the constant brings ({ten_scaled_bias:+.2f}); and one that has the frequencies from the start beats them all ({ten_log_frequency_bias:+.2f}).""",
    "split-see": """Of the gain of CLS, {share_occurs:.0%} lies in the first part: the model knows sooner which tokens exist at all. That is knowledge about the vocabulary, which a table of counts has from the start.""",
    "first-step-see": """The prediction from the states at birth holds, to an eighth or better, for all arms but one. CLS, `read-only`, `constant`, `frozen constant`, `ln_f bias` and the scaled bias all move these logits four times as far in one update as vanilla does; the one-hot constant, as long but with one coordinate instead of 128, not half as much farther; the plain bias adds one learning rate. For the log-frequency bias it is a third too large: there the probabilities, and with them the gradients, are so small from the start that the ε in Adam's division (10⁻⁸) counts; and there is nothing left to push down. Nobody covers 11.5 in 120 steps of the first size. While a model trains, its states learn to agree, and the steps grow; but who starts four times as fast is ahead when the five epochs are over.""",
    "dose-see": """Prediction (1) holds: with a vocabulary of 50, where every token occurs, CLS is no gain but a loss ({v50_CLS:+.2f} nats: its added state makes the first logits larger and has nothing to push down); the gain grows with the tokens that never occur ({v500_CLS:+.2f} at 500, {v5000_CLS:+.2f} at 5,000, {ten_CLS:+.2f} at 50,257). Prediction (2) holds: at a rate of 1e-3 it is gone, and CLS is slightly behind ({rate1e3_CLS:+.3f} ± {rate1e3_CLS_half:.3f}); at 0.01 five seeds can't tell. Prediction (3) holds: CLS leads by most after epoch {deepest_epoch} ({deepest:+.2f}), and after 30 epochs the two are level ({epochs30_CLS:+.4f} ± {epochs30_CLS_half:.4f}, four seeds). Prediction (4) holds for SGD, at a rate of 0.03 and a momentum of 0.9: there CLS is behind ({sgd_CLS:+.2f} nats). But this SGD is also fast (vanilla ends at {sgd_vanilla_loss:.2f} nats), so it can't tell (4) from (2). And it fails for ε: at 1e-6 hardly anything changes ({eps6_CLS:+.2f}), and at 1e-4 CLS leads by even more ({eps4_CLS:+.2f}). An ε that large makes all steps small, as a low rate does, so both models are earlier on their way (vanilla is still at {eps4_vanilla_loss:.1f} nats), where the lead is largest. So division by the gradient's size is not the whole of it: what counts is how far the logits can get in 120 updates.""",
    "tuned-see": """**What we see.** Tuned, every arm takes the same rate, ten times the released one, and vanilla ends at {tuned_vanilla_loss:.3f} nats where the released recipe left it at {ten_vanilla_loss:.2f}. CLS is not ahead any more: {tuned_CLS:+.3f} ± {tuned_CLS_half:.3f}, slightly behind, and inside the margin; though so near zero loss there is little left to gain. With a rate that is high enough, the published gain does not appear.""",
    "gaps-text": """**What we see.** As bytes the models end at {bytes_vanilla_loss:.2f} bits per byte (vanilla, mean of {bytes_vanilla_n} seeds). That is below counted trigrams, so they know more than the last two bytes; it is not below counted four-grams, which have counted three times as much text as the models have read. Left, both fall together. In the documented setting {doc_vanilla_stuck} of {doc_vanilla_n} runs of vanilla and {doc_CLS_stuck} of {doc_CLS_n} of CLS end above counted pairs: they are still on the plateau on which a model knows little more than how often each token occurs. What such runs differ in says little about models that have learned.""",
    "gaps-see": """**What we see.** As bytes CLS ends {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte from vanilla: behind under each of the seeds, but four of them leave the interval too wide for a verdict. The token alone makes no visible difference ({bytes_prepended:+.3f} ± {bytes_prepended_half:.3f}), the constant alone is at {bytes_constant:+.3f} ± {bytes_constant_half:.3f}. The placebo is vanilla to the last digit: this setting has no dropout, so there are no random numbers to differ in. As documented nothing can be told: CLS {doc_CLS:+.2f} ± {doc_CLS_half:.2f}. (The protocol asks for 12 seeds as bytes and 20 as documented; those in the record are the first four.)""",
    "worth-see": """**What we see.** A trained CLS model relies on its readout: without it the loss rises by {ten_readout_dropped:.1f} nats on the ten sentences and by {bytes_readout_dropped:.1f} bits per byte as bytes. As bytes it has come to use the column too: hidden, the loss rises by {bytes_column_hidden:.3f} bits per byte; on the ten sentences by {ten_column_hidden:.3f} nats, next to nothing. But to use is not to gain: `prepended` has the same place to rest attention on, and no gain of it over vanilla is seen (part 14). In the byte models CLS draws {bytes_CLS_first:.1%} of all attention, the first token of vanilla {bytes_vanilla_first:.1%}. Nowhere are the gradients seen to flow better: the ratio moves by {ten_flow:+.3f} ± {ten_flow_half:.3f} on the ten sentences (equal), by {bytes_flow:+.2f} ± {bytes_flow_half:.2f} as bytes (not resolved), and by {doc_flow:+.2f} ± {doc_flow_half:.2f} as documented, where a smaller share reaches the first block. And the state of CLS does not vary in a single digit, in any run.""",
    "represent-see": """**What we see.** The state of CLS scores chance, exactly, in every run. The mean of all states knows a little ({doc_probe_mean:.1%} and {bytes_probe_mean:.1%}; without CLS {doc_probe_vanilla:.1%} and {bytes_probe_vanilla:.1%}). Plain counts beat every state of these small models by far where there are words to count. So the remedy for a representation is not another token: for a task like this one, count; or train a larger model, and pool its states.""",
    "claims-see": """**What we see.** Where they were made, three claims hold, and by far: the loss is lower, in every epoch, and sooner. There too the constant alone does better than the token with its constant, so parameter efficiency comes out opposite; attention and gradient flow come out equal. As documented, four seeds resolve nothing about the loss; the gradient ratio comes out opposite. Where models learn most, CLS is behind so far ({bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte), and one claim holds, that attention uses the token, though no gain from it is seen. Representation and other tasks are impossible everywhere, and that needs no statistics. "Scales" is in the protocol (widths 64 and 256) and has not been run.

**What to do instead.** Tune the learning rate: that alone is worth {tuned_gain:.2f} nats on the ten sentences, more than twice what CLS brings. If an early gain matters, give the head a bias and start it at the log-frequencies of the training tokens: {ten_log_frequency_bias:+.2f} nats, without any token. For a representation, see part 15. On unseen text we ran only CLS and its parts, four seeds each: none was seen to beat vanilla, and the bias was not tried there.

**Take away:** a claim is a question; give each one an experiment that could say no.""",
    "close": """The published number can be reproduced: it lies among those of our 20 seeds. What causes it is not the token but a constant added to every state: {ten_constant:+.2f} nats without any token, {ten_CLS:+.2f} with both, {ten_prepended:+.2f} for the token alone. The constant gives Adam a lever on the logits, above all on those of the 50,207 tokens that never occur: about half of the gain lies there. The gain is gone when every token occurs ({v50_CLS:+.2f}), when training goes on ({epochs30_CLS:+.3f} after 30 epochs), when the rate is tuned ({tuned_CLS:+.3f}), or when SGD takes Adam's place at a rate high enough ({sgd_CLS:+.2f}). On unseen plays, as bytes, CLS is behind so far ({bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte). And a token in front of a causal model can represent nothing, for it sees nothing. Tune the learning rate first; if you want the head start, give the head a bias.""",
    "front": """The published number can be reproduced, but it is not the token's doing. What helps is a constant that is added to every state, and it needs no token: {ten_constant:+.2f} nats without one, {ten_CLS:+.2f} with it, {ten_prepended:+.2f} for the token alone. The constant is a lever by which Adam moves all logits of a word at once, above all those of words that never occur; with a tuned learning rate the gain is gone ({tuned_CLS:+.3f} ± {tuned_CLS_half:.3f}), as it is after 30 epochs. On unseen plays no gain is seen, but none is excluded ({bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte, four seeds so far). And in front of a causal model the token sees nothing, so it cannot represent anything.""",
    "README answer": """- **The published number can be reproduced.** All ten values of its table lie inside the spread of our 20 seeds.
- **It is not the token's doing.** A constant added to every state brings {ten_constant:+.2f} nats without any token; the token alone brings {ten_prepended:+.2f}, both together {ten_CLS:+.2f}. The constant is a lever by which Adam moves all logits of a word at once; about half of the gain is pushing down words that never occur.
- **It does not last.** With a tuned learning rate the difference is {tuned_CLS:+.3f} ± {tuned_CLS_half:.3f} nats, after 30 epochs {epochs30_CLS:+.3f} (four seeds). On unseen plays it is not resolved: {bytes_CLS:+.3f} ± {bytes_CLS_half:.3f} bits per byte (four seeds; 99.5 % intervals).
- **The token can represent nothing:** in front of a causal model it sees only itself. Its state was the same for every input in every run.""",
    "README record": """The {runs} runs in the record so far took {hours:.1f} hours of one core.""",
}
