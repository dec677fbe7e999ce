"""A trainer that asks Kubernetes for a Job for each training; the pods of its cluster are processes of this machine.

What is trained is the same as in the trainer's own process, to the bit, whatever happens to pods, queue and trainer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ouroscope.client import TrainerClient
from ouroscope.errors import (
    AlreadyExists,
    Cancelled,
    CapabilityMissing,
    InvalidRequest,
    LimitExceeded,
    PreconditionFailed,
    Unavailable,
)
from ouroscope.kubernetes import ApiServer
from ouroscope.records.training import CheckRecipe, FineTune, Optimizer
from ouroscope.store import ArtifactStore
from services.trainer.jobs.following import Jobs, Times
from services.trainer.jobs.front import followed
from services.trainer.jobs.template import ANSWER, REQUEST, read_template
from services.trainer.service import start
from tests.chart import claimed_versions, rights_of, validator
from tests.servers.batch import TOKEN, Cluster, Object
from tests.servers.running import running
from tests.servers.waiting import wait_until
from tests.training_jobs import (
    FAIL,
    LONG,
    PUBLISH,
    QUICK,
    REFUSE,
    SAY_NOTHING,
    WAIT,
    Asked,
    following,
    request_for,
    template,
    tiny_model,
    train_here,
    written,
)

TIMES = Times(poll=0.05, patience=20.0, stuck=0.3, answer=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A directory that pods see too, or a bucket."""
    bucket = getattr(request, "param", "") == "s3"
    return ArtifactStore(request.getfixturevalue("s3") if bucket else str(tmp_path / "store"))


@pytest.fixture
def request_(store: ArtifactStore, model: Path) -> FineTune:
    return request_for(store, model, QUICK)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "pods").mkdir()
    made = Cluster(tmp_path / "pods", allowed=rights_of("kueue", "trainer"))
    yield made
    made.close()


@pytest.fixture
def api(cluster: Cluster, tmp_path: Path) -> Iterator[ApiServer]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with running(cluster.app) as url:
        yield ApiServer(url=url, token=token, authorities=None, namespace="lab")


JobsOf = Callable[..., Jobs]


@pytest.fixture
def jobs(api: ApiServer, store: ArtifactStore, tmp_path: Path) -> JobsOf:
    """Make what asks for Jobs of a program."""

    def make(program: str = "", *, change: Callable[[Object], Any] = lambda job: None, **times: float) -> Jobs:
        job = template(store.url, program)
        change(job)
        read = read_template(written(tmp_path / "job.yaml", job), store.url)
        return Jobs(api=api, template=read, store=store, times=replace(TIMES, **times))

    return make


def test_the_answer_of_a_job_is_the_one_in_the_store_and_progress_is_told(
    jobs: JobsOf, cluster: Cluster, request_: FineTune, store: ArtifactStore
) -> None:
    asked = Asked()
    tuned = jobs(PUBLISH).train(request_, asked)
    assert tuned.steps == 3
    assert store.exists(tuned.model)
    ((name, job),) = cluster.jobs.items()
    assert name == job["metadata"]["name"]
    assert {REQUEST, ANSWER} <= set(job["metadata"]["annotations"])
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"


def test_the_job_is_one_that_every_claimed_kubernetes_takes(jobs: JobsOf, request_: FineTune) -> None:
    job = jobs().template.asked(request_).job
    for version in claimed_versions():
        wrong = validator(version, "batch/v1", "Job").iter_errors(job)
        assert [f"{error.json_path} {error.message[:200]}" for error in wrong] == []


def test_the_role_of_the_chart_is_what_is_asked_and_no_more(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    followed_ = following(jobs(WAIT), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    followed_.asked.stop_with = Cancelled("enough")
    with pytest.raises(Cancelled):
        followed_.end()
    assert cluster.used == cluster.allowed


def test_without_the_role_the_way_out_is_told(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    cluster.allowed = {("get", "jobs")}
    with pytest.raises(PreconditionFailed, match="Role") as caught:
        jobs(PUBLISH).train(request_, Asked())
    assert "secret" not in caught.value.message
    assert TOKEN not in caught.value.message


def test_a_token_that_was_renewed_is_used(jobs: JobsOf, api: ApiServer, request_: FineTune) -> None:
    made = jobs(PUBLISH)
    api.token.write_text("another")
    with pytest.raises(PreconditionFailed, match="HTTP 401"):
        made.train(request_, Asked())
    api.token.write_text(TOKEN)
    assert made.train(request_, Asked()).steps == 3


def test_a_refusal_of_the_task_comes_back_as_what_it_was_and_is_tried_again_when_it_is_asked_for_again(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    for times in (1, 2):
        with pytest.raises(InvalidRequest, match="odd") as caught:
            jobs(REFUSE).train(request_, Asked())
        assert [problem.field for problem in caught.value.problems] == ["recipe.chat"]
        assert caught.value.metadata == {"hint": "none"}
        assert len({job["metadata"]["uid"] for job in cluster.jobs.values()}) == 1
        assert len(cluster.pods) == times


def test_what_waits_for_quota_or_for_a_node_says_so(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    cluster.quota, cluster.unschedulable = False, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. " + "x" * 500
    followed_ = following(jobs(PUBLISH), request_)
    wait_until(lambda: "wait for quota" in followed_.asked.stages)
    assert cluster.pods == []
    cluster.admit()
    wait_until(lambda: any("Insufficient nvidia.com/gpu" in stage for stage in followed_.asked.stages))
    assert max(map(len, followed_.asked.stages)) < 200
    cluster.unschedulable = ""
    assert followed_.end().steps == 3


@pytest.mark.parametrize(("word", "told"), [("ImagePullBackOff", "image"), ("CreateContainerConfigError", "Secrets")])
def test_an_image_or_a_container_that_cannot_be_had_gives_the_quota_back(
    jobs: JobsOf, cluster: Cluster, request_: FineTune, word: str, told: str
) -> None:
    cluster.waits = word
    with pytest.raises(PreconditionFailed, match=f"{told}.*{word}|{word}.*{told}"):
        jobs(PUBLISH).train(request_, Asked())
    assert cluster.jobs == {}


def test_a_job_that_fails_as_often_as_it_may_says_why(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    def twice(job: Object) -> None:
        job["spec"]["backoffLimit"] = 1

    with pytest.raises(PreconditionFailed, match="the store cannot be reached"):
        jobs(FAIL, change=twice).train(request_, Asked())
    assert [pod.status for pod in cluster.pods] == [75, 75]
    # Asked for again, it is begun anew.
    assert jobs(PUBLISH).train(request_, Asked()).steps == 3


def test_too_little_memory_is_told_with_what_to_lower(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    def once(job: Object) -> None:
        job["spec"]["backoffLimit"] = 0

    followed_ = following(jobs(WAIT, change=once), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    cluster.kill("OOMKilled")
    with pytest.raises(LimitExceeded, match=r"recipe\.batch_size"):
        followed_.end()


def test_a_job_that_worked_for_too_long_says_which_value_to_raise(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    followed_ = following(jobs(WAIT), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    (job,) = cluster.jobs.values()
    job["status"]["conditions"] = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]
    with pytest.raises(LimitExceeded, match="deadlineSeconds"):
        followed_.end()


def test_who_cancels_ends_the_job_and_its_pod_is_told(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    followed_ = following(jobs(WAIT), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    (pod,) = cluster.pods
    followed_.asked.stop_with = Cancelled("enough")
    with pytest.raises(Cancelled, match="enough"):
        followed_.end()
    assert cluster.jobs == {}
    wait_until(lambda: pod.over)
    assert "SIGTERM was heard" in pod.log.read_text()


def test_a_new_job_waits_for_the_pod_of_the_one_that_was_deleted(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    deaf = WAIT.replace("sys.exit(75)", "time.sleep(600)")
    followed_ = following(jobs(deaf), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    followed_.asked.stop_with = Cancelled("enough")
    with pytest.raises(Cancelled):
        followed_.end()
    again = following(jobs(PUBLISH), request_)
    wait_until(lambda: "wait for an earlier pod to end" in again.asked.stages)
    assert cluster.jobs == {}
    cluster.kill()
    assert again.end().steps == 3


def test_a_job_whose_making_was_not_answered_is_found_and_made_once(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    cluster.lost_answers = 1
    assert jobs(PUBLISH).train(request_, Asked()).steps == 3
    assert len(cluster.pods) == 1


def test_who_cancels_before_any_answer_leaves_no_job_behind(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    cluster.lost_answers = 1
    followed_ = following(jobs(WAIT), request_)
    wait_until(lambda: bool(cluster.jobs))
    cluster.refuses.extend([500] * 10_000)
    followed_.asked.stop_with = Cancelled("enough")
    cluster.refuses.clear()
    with pytest.raises(Cancelled, match="enough"):
        followed_.end()
    assert cluster.jobs == {}


def test_a_job_that_somebody_deletes_is_cancelled(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    followed_ = following(jobs(WAIT), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    cluster.jobs.clear()
    with pytest.raises(Cancelled, match="was deleted"):
        followed_.end()


def test_a_foreign_job_of_the_same_name_is_left_alone(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    made = jobs(PUBLISH)
    foreign: Object = {"metadata": {"name": made.template.asked(request_).name, "uid": "x"}, "spec": {"suspend": True}}
    cluster.jobs[foreign["metadata"]["name"]] = {**foreign, "status": {}}
    with pytest.raises(AlreadyExists, match="not one of this trainer"):
        made.train(request_, Asked())
    assert next(iter(cluster.jobs.values()))["metadata"]["uid"] == "x"


def test_a_trainer_that_stops_leaves_the_job_and_the_next_one_follows_it(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    first = following(jobs(WAIT), request_)
    wait_until(lambda: bool(first.asked.steps))
    first.asked.stop_with = Unavailable("the service is shutting down")
    with pytest.raises(Unavailable, match="shutting down"):
        first.end()
    (job,) = cluster.jobs.values()
    second = following(jobs(WAIT), request_)
    wait_until(lambda: bool(second.asked.steps))
    assert list(cluster.jobs.values()) == [job]
    assert len(cluster.pods) == 1
    second.asked.stop_with = Cancelled("enough")
    with pytest.raises(Cancelled):
        second.end()


def test_a_job_of_another_template_is_begun_anew(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    first = following(jobs(WAIT), request_)
    wait_until(lambda: bool(first.asked.steps))
    first.asked.stop_with = Unavailable("the service is shutting down")
    with pytest.raises(Unavailable):
        first.end()
    assert jobs(PUBLISH).train(request_, Asked()).steps == 3
    assert len(cluster.jobs) == 1


def test_an_answer_is_found_although_pods_and_logs_are_gone(
    jobs: JobsOf, cluster: Cluster, request_: FineTune, store: ArtifactStore
) -> None:
    made = jobs(PUBLISH)
    first = made.train(request_, Asked())
    cluster.lose_logs()
    assert made.train(request_, Asked()) == first
    assert len(cluster.jobs) == 1


def test_a_job_that_left_nothing_at_all_is_asked_for_again(jobs: JobsOf, cluster: Cluster, request_: FineTune) -> None:
    with pytest.raises(Unavailable, match="ask again"):
        jobs(SAY_NOTHING).train(request_, Asked())
    assert cluster.jobs == {}


def test_an_api_server_that_fails_for_a_while_and_logs_that_break_off_disturb_nothing(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    cluster.refuses.extend([500, 503, 429])
    cluster.cut_logs = 3
    followed_ = following(jobs(WAIT), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    assert cluster.cut_logs == 0
    cluster.refuses.extend([500] * 5)
    wait_until(lambda: not cluster.refuses)
    followed_.asked.stop_with = Cancelled("enough")
    with pytest.raises(Cancelled):
        followed_.end()


def test_an_api_server_that_is_away_for_too_long_is_told_and_the_job_goes_on(
    jobs: JobsOf, cluster: Cluster, request_: FineTune
) -> None:
    followed_ = following(jobs(WAIT, patience=0.5), request_)
    wait_until(lambda: bool(followed_.asked.steps))
    cluster.refuses.extend([500] * 10_000)
    with pytest.raises(Unavailable, match="a Job that was begun goes on"):
        followed_.end()
    cluster.refuses.clear()
    assert len(cluster.at_work()) == 1


async def test_a_recipe_is_judged_by_the_model_and_by_what_the_template_gives(
    jobs: JobsOf, store: ArtifactStore, model: Path, connect: Callable[[str], Any]
) -> None:
    request = request_for(store, model, QUICK)
    with_gpus = followed(jobs(change=lambda job: _give_gpus(job, 2)))
    for work, recipe, error, told in (
        (followed(jobs()), replace(QUICK, optimizer=Optimizer.ADAMW_8BIT), CapabilityMissing, "needs a GPU"),
        (followed(jobs()), replace(QUICK, block_tokens=1000), InvalidRequest, "block_tokens"),
        (with_gpus, replace(QUICK, batch_size=4, processes=4), CapabilityMissing, "at most 2"),
        # How many processors a pod finds is not known before it is there.
        (followed(jobs()), replace(QUICK, batch_size=4, processes=4), None, ""),
        (with_gpus, QUICK, None, ""),
    ):
        server = await start(store, elsewhere=work)
        try:
            asking = TrainerClient(connect(server.address)).check_recipe(
                CheckRecipe(model=request.model, recipe=recipe)
            )
            if error is None:
                await asking
            else:
                with pytest.raises(error, match=told):
                    await asking
        finally:
            await server.stop(0)


def _give_gpus(job: Object, count: int) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["resources"]["limits"]["nvidia.com/gpu"] = count
    container["env"] = [one for one in container["env"] if one["name"] != "OURO_TRAINER_DEVICE"]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_killed_preempted_and_with_another_trainer_a_job_ends_with_the_model_of_an_undisturbed_training(
    jobs: JobsOf,
    cluster: Cluster,
    store: ArtifactStore,
    model: Path,
    tmp_path: Path,
    connect: Callable[[str], Any],
) -> None:
    request = request_for(store, model, LONG)
    undisturbed = ArtifactStore(tmp_path / "undisturbed")
    request_for(undisturbed, model, LONG)
    made, told = jobs(), Asked()
    server = await start(store, elsewhere=followed(made))
    call = asyncio.create_task(TrainerClient(connect(server.address)).fine_tune(request, told.report))

    async def reached(happened: Callable[[], Any]) -> None:
        for _ in range(3000):
            assert not call.done(), "the training was over before it could be disturbed"
            if happened():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it has not happened")

    await reached(lambda: told.steps and told.steps[-1] > 600)
    cluster.kill()
    told.told.clear()
    await reached(lambda: told.steps)
    assert told.steps[0] > 500, "the last checkpoint"
    await reached(lambda: told.steps[-1] > 1600)
    at = told.steps[-1]
    await asyncio.to_thread(cluster.preempt)
    await reached(lambda: "wait for quota" in told.stages)
    await reached(lambda: not cluster.at_work())
    told.told.clear()
    await server.stop(0)
    server = await start(store, server.address, elsewhere=followed(jobs()))
    await asyncio.to_thread(cluster.admit)
    tuned = await call
    await server.stop(0)
    assert told.steps[0] > at, "what was kept when the pod was told to end"
    assert len(cluster.jobs) == 1
    assert tuned == await asyncio.to_thread(train_here, undisturbed, request)


@pytest.mark.e2e
@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_training_on_s3_that_was_killed_goes_on_from_its_checkpoint(
    jobs: JobsOf, cluster: Cluster, store: ArtifactStore, model: Path, tmp_path: Path
) -> None:
    request = request_for(store, model, LONG)
    undisturbed = ArtifactStore(tmp_path / "undisturbed")
    request_for(undisturbed, model, LONG)
    begun = following(jobs(), request)
    wait_until(lambda: bool(begun.asked.steps) and begun.asked.steps[-1] > 600, seconds=240)
    cluster.kill()
    begun.asked.told.clear()
    tuned = begun.end(seconds=240)
    assert begun.asked.steps[0] > 500
    assert tuned == train_here(undisturbed, request)
