"""The order's table: every step that is in it, and none that is not."""

import pytest

from ticketcore.errors import ConflictError
from ticketcore.orders import GIVEN_UP, NEXT, OrderEvent, OrderState, step


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("event", OrderEvent)
def test_every_step_is_that_of_the_table_or_refused_with_a_reason(state: OrderState, event: OrderEvent) -> None:
    if (state, event) in NEXT:
        assert step(state, event) is NEXT[state, event]
    else:
        with pytest.raises(ConflictError, match="the order cannot"):
            step(state, event)


def test_a_sale_goes_through_all_its_states() -> None:
    assert step(OrderState.HELD, OrderEvent.PAY, OrderEvent.CAPTURE, OrderEvent.ISSUE) is OrderState.ISSUED


def test_what_was_given_up_never_lives_again() -> None:
    assert not {state for state, _ in NEXT} & (GIVEN_UP | {OrderState.REFUNDED})


def test_from_payment_on_no_clock_decides() -> None:
    assert {state for state, event in NEXT if event is OrderEvent.LAPSE} == {OrderState.HELD}
