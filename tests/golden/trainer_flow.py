"""What transformers' Trainer does when: the order of its callbacks, logs, evaluations and saves, and which checkpoints remain.

Writes tests/golden/trainer_flow.json, which oumi/trainer/trainer_flow_test.cpp replays. With torch 2.11.0, transformers 5.23.0
and accelerate 1.15.0 installed, from the repository's root:
    python tests/golden/trainer_flow.py
Scores stand in for the evaluation's metric, one for each evaluation in turn.
"""

import contextlib
import json
import os
import pathlib
import tempfile

import torch
import transformers

FALLING = [0.5, 0.6, 0.9, 0.7, 0.8, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03]
SCENARIOS = {
    "accumulation_takes_what_is_left": dict(samples=19, args=dict(gradient_accumulation_steps=3, logging_steps=1)),
    "steps": dict(samples=20, args=dict(logging_steps=2, eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3)),
    "epochs": dict(samples=12, args=dict(num_train_epochs=3, logging_strategy="epoch", eval_strategy="epoch", save_strategy="epoch",
                                         eval_delay=2)),
    "shares_of_the_run": dict(samples=20, args=dict(logging_steps=0.25, eval_strategy="steps", eval_steps=0.5, save_strategy="steps",
                                                    save_steps=0.3, logging_first_step=True, eval_on_start=True, warmup_steps=0.2)),
    "eval_steps_follow_logging_steps": dict(samples=20, args=dict(logging_steps=4, eval_strategy="steps", eval_delay=5)),
    "max_steps_over_epochs": dict(samples=20, args=dict(per_device_train_batch_size=8, gradient_accumulation_steps=2, max_steps=7,
                                                        logging_steps=3)),
    "part_of_an_epoch": dict(samples=20, args=dict(num_train_epochs=1.5, logging_steps=2)),
    "save_limit_keeps_the_best": dict(samples=20, scores=FALLING,
                                      args=dict(logging_steps=10, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
                                                save_total_limit=2, load_best_model_at_end=True, metric_for_best_model="score")),
    "save_limit_of_one": dict(samples=20, scores=FALLING,
                              args=dict(logging_steps=10, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
                                        save_total_limit=1, load_best_model_at_end=True, metric_for_best_model="score",
                                        greater_is_better=True)),
    "save_limit_alone": dict(samples=20, args=dict(logging_steps=10, save_strategy="steps", save_steps=3, save_total_limit=2)),
    "early_stopping": dict(samples=20, scores=FALLING, patience=2, threshold=0.05,
                           args=dict(logging_steps=10, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
                                     load_best_model_at_end=True, metric_for_best_model="eval_score")),
    "early_stopping_lower_is_better": dict(samples=20, scores=[0.5, 0.45, 0.44, 0.43, 0.42, 0.3, 0.2], patience=3, threshold=0.1,
                                           args=dict(num_train_epochs=4, logging_steps=10, eval_strategy="epoch", save_strategy="epoch",
                                                     load_best_model_at_end=True, metric_for_best_model="score",
                                                     greater_is_better=False)),
    "save_the_best": dict(samples=20, scores=FALLING,
                          args=dict(logging_steps=10, eval_strategy="steps", eval_steps=1, save_strategy="best",
                                    metric_for_best_model="score")),
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x, labels=None):
        logits = self.head(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Recorder(transformers.TrainerCallback):
    """Every event with the step it came at; a log says of what."""

    def __init__(self):
        self.events = []

    def note(self, event, state):
        self.events.append(f"{event}@{state.global_step}")


def make_event(name):
    def event(self, args, state, control, **kwargs):
        label = name
        if name == "on_log":
            logs = kwargs["logs"]
            label += ":eval" if any(key.startswith("eval_") for key in logs) else ":summary" if "train_runtime" in logs else ":train"
        self.note(label, state)

    return event


for name in ("on_init_end", "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_step_begin", "on_substep_end",
             "on_pre_optimizer_step", "on_optimizer_step", "on_step_end", "on_evaluate", "on_save", "on_log", "on_prediction_step"):
    setattr(Recorder, name, make_event(name))


def run(scenario, folder):
    torch.manual_seed(0)
    data = [{"x": torch.rand(4), "labels": torch.tensor(i % 3)} for i in range(scenario["samples"])]
    scores = iter(scenario.get("scores", []))
    recorder = Recorder()
    callbacks = [recorder]
    if "patience" in scenario:
        callbacks.append(transformers.EarlyStoppingCallback(scenario["patience"], scenario["threshold"]))
    arguments = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "save_strategy": "no", "learning_rate": 0.01,
                 **scenario["args"]}
    trainer = transformers.Trainer(
        model=Net(), args=transformers.TrainingArguments(output_dir=str(folder), report_to=[], use_cpu=True, disable_tqdm=True, **arguments),
        train_dataset=data, eval_dataset=data[:8], callbacks=callbacks,
        compute_metrics=(lambda _: {"score": next(scores)}) if "scores" in scenario else None)
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        trainer.train()
    state = trainer.state
    history = state.log_history
    return {
        "samples": scenario["samples"], "args": arguments, "scores": scenario.get("scores"), "patience": scenario.get("patience"),
        "threshold": scenario.get("threshold"), "events": recorder.events, "global_step": state.global_step, "max_steps": state.max_steps,
        "num_train_epochs": state.num_train_epochs, "epoch": state.epoch, "best_metric": state.best_metric,
        "best_global_step": state.best_global_step,
        "best_checkpoint": os.path.basename(state.best_model_checkpoint) if state.best_model_checkpoint else "",
        "checkpoints": sorted((p.name for p in folder.glob("checkpoint-*")), key=lambda n: int(n.split("-")[1])),
        "log_steps": [entry["step"] for entry in history if "loss" in entry],
        "log_epochs": [entry["epoch"] for entry in history if "loss" in entry],
        "learning_rates": [entry["learning_rate"] for entry in history if "loss" in entry],
        "eval_steps": [entry["step"] for entry in history if "eval_loss" in entry],
    }


def main():
    transformers.logging.set_verbosity_error()
    golden = {"transformers": transformers.__version__, "scenarios": {}}
    for name, scenario in SCENARIOS.items():
        with tempfile.TemporaryDirectory() as folder:
            golden["scenarios"][name] = run(scenario, pathlib.Path(folder))
    target = pathlib.Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(golden, indent=1) + "\n")
    print(len(golden["scenarios"]), "scenarios")


if __name__ == "__main__":
    main()
