"""The demo from top to bottom: every step is the real thing, over HTTP, between processes."""

from groat.demo import steps, workloads
from groat.demo.interrupts import Interrupts
from groat.demo.kept import describe
from groat.demo.report import People, Programs, Report, say_failed
from groat.demo.stage import DemoFailed, Stage, new_stage
from groat.demo.wire import Wire


def perform(*, keep: bool, as_json: bool, color: bool, workload: bool) -> int:
    """Play all steps; returns the exit code. Nothing is left behind, unless `keep` is set and all went well."""
    title = "groat demo --workload" if workload else "groat demo"
    report = Report(Programs() if as_json else People(color, keep, title))
    with Interrupts() as interrupts, new_stage(interrupts) as stage:
        try:
            if workload:
                _play_workloads(stage, report)
            else:
                _play(stage, report, keep)
        except DemoFailed as failure:
            # Inside of the stage: behind it, the logs are gone.
            say_failed(str(failure), stage.services)
            return 1
    return 0


def _play(stage: Stage, report: Report, keep: bool) -> None:
    report.begin()
    scene = steps.set_up(stage, report)
    wire = Wire()
    with wire.http, steps.billing_client(scene, wire) as billing:
        token = steps.get_token(report, scene, billing, wire)
        # Kept for the replay, before the client signs its next one.
        used_assertion = wire.assertion
        bound_token = steps.call_api(report, scene, billing)
        steps.be_refused(report, scene, billing, steps.Taken(used_assertion, token, bound_token))
    if keep:
        _keep(stage, report, scene)


def _play_workloads(stage: Stage, report: Report) -> None:
    report.begin()
    scene = workloads.set_up(stage, report)
    wire = Wire()
    with wire.http:
        workloads.run_pod(stage, report, scene, wire)
        workloads.run_job(report, scene, wire)
    # The job's last token has counted by now.
    workloads.be_refused(report, scene, wire.foreign_token)


def _keep(stage: Stage, report: Report, scene: steps.Scene) -> None:
    with report.step("kept") as step:
        kept = describe(stage, scene.server, scene.api, scene.installation, scene.clients)
        step.tell(*kept.running(), **kept.facts())
    report.plain(kept.to_copy())
    stage.kept = True
