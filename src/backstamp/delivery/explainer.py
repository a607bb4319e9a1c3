"""From a queue id to everything known of the message: the shell that gathers facts.

It asks the queue, delivery's books, the history and, where a message waits for its time, the
resolver for the way it would go now. It connects to nobody and changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, Protocol

from backstamp.clock import Clock
from backstamp.delivery.dispatcher import Dispatcher
from backstamp.delivery.facts import Destination, Explained, Listed, Person, Said, State, Step
from backstamp.delivery.history import Past
from backstamp.delivery.looking import Looker, Standing
from backstamp.delivery.router import Bound
from backstamp.mail.envelope import domain_of
from backstamp.policy import pause, retry
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import sender_name
from backstamp.policy.suppression import Suppressed
from backstamp.queue import ids
from backstamp.queue.view import DeliveryView, Opened, RecipientView, named
from backstamp.text import printable

BOUND: Final = 20
"""Destinations of a message that are explained; the others are counted."""

_OPEN: Final = "T?HF"


class Opens(Protocol):
    """What is asked of the queue."""

    async def open(self, queue_id: str) -> Opened | None:
        """Return one message with its deliveries."""
        ...


class Explainer:
    """Explains messages.

    `trouble` tells what ails the queue's disk, None if nothing does; `suppressed` is the suppression
    list, None where there is none.
    """

    def __init__(
        self,
        queue: Opens,
        dispatcher: Dispatcher,
        clock: Clock,
        trouble: Callable[[], str | None],
        suppressed: Suppressed | None = None,
    ) -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._clock = clock
        self._trouble = trouble
        self._suppressed = suppressed
        self._started = clock.wall()

    async def explain(self, queue_id: str, recipient: str = "") -> Explained | None:
        """Return the facts of a message, of one recipient only where one is named; None if it is not queued.

        Raises:
            ValueError: it is no queue id, or the address is none of its recipients'.
        """
        key = ids.parse(queue_id)
        opened = await self._queue.open(queue_id)
        if opened is None:
            return None
        message = opened.message
        chosen = named(message, [recipient]) if recipient else range(len(message.recipients))
        # Who is finished is only counted, but for who was asked about.
        over = [message.recipients[one] for one in chosen] if recipient else []
        groups = [*_groups(opened, chosen)]
        found = [await self._destination(key, opened, *group) for group in groups[:BOUND]]
        letters = [one.stamp for one in message.recipients]
        books = self._dispatcher.books()
        return Explained(
            message.queue_id,
            self._clock.wall(),
            self._started,
            printable(message.sender),
            message.arrival,
            message.size,
            {letter: letters.count(letter) for letter in dict.fromkeys(letters)},
            tuple(found),
            len(groups) - len(found),
            printable(opened.flow.tenant.decode("utf-8", "backslashreplace")),
            opened.flow.priority,
            opened.at_most_once,
            opened.report,
            opened.reporting,
            message.problem,
            self._trouble() or "",
            opened.closed,
            books.stopping,
            message.release,
            tuple(Person(printable(one.address), one.stamp) for one in over if one.stamp not in _OPEN),
        )

    async def _destination(
        self,
        key: bytes,
        opened: Opened,
        domain: bytes,
        kind: str,
        ordinals: Sequence[int],
        waiting: DeliveryView | None,
    ) -> Destination:
        """Return what is known of the recipients of one domain that stand alike."""
        recipients = opened.message.recipients
        people = tuple(
            Person(printable(recipients[ordinal].address), recipients[ordinal].stamp) for ordinal in ordinals
        )
        name = printable(domain.decode("utf-8", "backslashreplace"))
        past = self._dispatcher.history.get(key, domain)
        if kind == "F":
            said = tuple(
                Said(printable(str(one.reply)), one.host, one.time / 1e6)
                for one in opened.reasons
                if {*one.ordinals} & {*ordinals}
            )
            return Destination(name, State.REPORT, people, past=None if said else past, failures=said)
        if kind == "H" or waiting is None:
            return Destination(name, State.HELD, people, past=past)
        return await self._waiting(opened, waiting, people, name, past)

    async def _waiting(
        self, opened: Opened, waiting: DeliveryView, people: tuple[Person, ...], name: str, past: Past | None
    ) -> Destination:
        delivery, message = waiting.delivery, opened.message
        router = self._dispatcher.router
        sender = sender_name(message.sender.encode("utf-8", "replace"))
        question = router.question(delivery.domain, sender if router.tables.personal else "")
        # Not the dispatcher's own answer: it has none for what waits for its time.
        bound = router.by_route(question) or await router.by_mx(question, self._clock.monotonic())
        looker = Looker(self._dispatcher.books(), self._clock)
        standing = looker.standing(delivery) if waiting.claimed else Standing(_unclaimed(waiting, looker.now))
        retrying = _retry(bound)
        begins = max(message.arrival, message.release)
        way = None
        if bound.way is not None:
            lane_way = standing.lane.way if standing.lane is not None else bound.lane(delivery)[1]
            way = looker.way(question, bound, lane_way, router.tables)
        return Destination(
            name,
            standing.state,
            people,
            delivery.attempts,
            past,
            waiting.due if standing.state is State.SCHEDULED else None,
            _step(retrying, past, begins) if standing.state is State.SCHEDULED else None,
            begins + retrying.lifetime,
            way,
            printable(str(bound.outcome.reply)) if bound.outcome is not None else "",
            standing.waiting,
            standing.blocked,
            standing.until,
            standing.doing,
            tuple(self._listed(people, opened.flow.tenant)),
        )

    def _listed(self, people: Sequence[Person], tenant: bytes) -> Iterator[Listed]:
        for person in people if self._suppressed is not None else ():
            assert self._suppressed is not None
            found = self._suppressed.match(person.address.encode("utf-8", "replace"), tenant)
            if found is not None:
                yield Listed(person.address, found.bounce_class, found.source.value, found.expires)


def _groups(
    opened: Opened, chosen: Sequence[int]
) -> Iterator[tuple[bytes, str, list[int], DeliveryView | None]]:
    """Yield who is not finished: domain, `T`, `H` or `F`, ordinals, and the delivery of those who wait."""
    recipients = opened.message.recipients
    deliveries = {ordinal: one for one in opened.deliveries for ordinal in one.ordinals}

    def alike(ordinal: int) -> tuple[bytes, str]:
        one = recipients[ordinal]
        return _domain(one), "T" if one.stamp == "?" else one.stamp

    alive = sorted((one for one in chosen if recipients[one].stamp in _OPEN), key=alike)
    for (domain, kind), members in groupby(alive, key=alike):
        ordinals = [*members]
        yield domain, kind, ordinals, deliveries.get(ordinals[0])


def _domain(one: RecipientView) -> bytes:
    return domain_of(one.address.encode("utf-8", "surrogateescape"))


def _unclaimed(waiting: DeliveryView, now: float) -> State:
    return State.SCHEDULED if waiting.due is not None and waiting.due > now else State.DUE


def _retry(bound: Bound) -> RetryPolicy:
    policy = bound.way.policy if bound.way is not None else bound.retry
    assert policy is not None
    return policy.retry


def _step(policy: RetryPolicy, past: Past | None, arrival: float) -> Step | None:
    """Return by which wait of the schedule the next try is, None where the last one is not known."""
    if past is None:
        return None
    age = past.last - arrival
    if age < 0:
        # An operator's try before the time that its sender named: the next waits for that.
        return None
    wait = retry.wait(policy, age)
    number = retry.window(policy, age)
    named = [
        seconds
        for one in past.heard
        if one.last == past.last and not one.failed
        if (seconds := pause.named(one.reply)) is not None
    ]
    asked, longest = max(named, default=None), policy.schedule[-1]
    cut = longest if asked is not None and asked > longest else None
    return Step(number + 1, len(policy.schedule), wait, asked, cut)
