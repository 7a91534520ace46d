-- Sales' own books. Times are UTC instants, park_date and *_date are civil days of the park, *_minor are minor units.
CREATE SEQUENCE sales.order_blocks;
CREATE SEQUENCE sales.ticket_blocks;

CREATE TABLE sales.catalogues (
    version bigint PRIMARY KEY,
    document text NOT NULL,
    publish_time timestamptz NOT NULL
);

-- Stored answers, by the id that the caller made. answer is NULL while a void is not settled.
CREATE TABLE sales.requests (
    request_id bytea PRIMARY KEY CHECK (length(request_id) = 16),
    method text NOT NULL,
    body_hash bytea NOT NULL,
    answer bytea,
    create_time timestamptz NOT NULL
);

CREATE TABLE sales.shifts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    window_id text NOT NULL,
    operator text NOT NULL,
    open_time timestamptz NOT NULL,
    close_time timestamptz,
    float_minor bigint NOT NULL CHECK (float_minor >= 0),
    expected_minor bigint,
    counted_minor bigint,
    difference_minor bigint,
    CHECK ((close_time IS NULL) = (counted_minor IS NULL)),
    CHECK (difference_minor = counted_minor - expected_minor)
);
CREATE UNIQUE INDEX shifts_one_open ON sales.shifts (window_id) WHERE close_time IS NULL;

CREATE TABLE sales.orders (
    id bigint PRIMARY KEY,
    state text NOT NULL CHECK (state IN
        ('held', 'paying', 'paid', 'issued', 'canceled', 'lapsed', 'partly_refunded', 'refunded')),
    channel text NOT NULL,
    window_id text NOT NULL,
    catalogue_version bigint NOT NULL,
    currency text NOT NULL,
    total_minor bigint NOT NULL CHECK (total_minor >= 0),
    ticket_count integer NOT NULL CHECK (ticket_count > 0),
    lines jsonb NOT NULL,
    hold_id bytea,
    hold_lapse_time timestamptz NOT NULL,
    create_time timestamptz NOT NULL,
    pay_time timestamptz,
    payment_method text,
    payment_id bytea,
    refunded_minor bigint NOT NULL DEFAULT 0,
    refunded_count integer NOT NULL DEFAULT 0 CHECK (refunded_count <= ticket_count)
);
CREATE INDEX orders_held ON sales.orders (hold_lapse_time) WHERE state = 'held';
CREATE INDEX orders_window ON sales.orders (window_id, id);

CREATE TABLE sales.payments (
    id bytea PRIMARY KEY CHECK (length(id) = 16),
    order_id bigint NOT NULL REFERENCES sales.orders,
    method text NOT NULL CHECK (method IN ('cash', 'provider', 'agency')),
    state text NOT NULL CHECK (state IN ('pending', 'captured', 'failed', 'canceled', 'returned')),
    amount_minor bigint NOT NULL,
    tendered_minor bigint NOT NULL DEFAULT 0,
    currency text NOT NULL,
    window_id text NOT NULL,
    shift_id bigint REFERENCES sales.shifts,
    create_time timestamptz NOT NULL,
    capture_time timestamptz
);
CREATE INDEX payments_shift ON sales.payments (shift_id) WHERE shift_id IS NOT NULL;

-- Webhooks that were acted upon, by the provider's event id.
CREATE TABLE sales.payment_events (
    event_id text PRIMARY KEY,
    payment_id bytea NOT NULL,
    kind text NOT NULL,
    effect text NOT NULL,
    event_time timestamptz NOT NULL,
    receive_time timestamptz NOT NULL
);

CREATE TABLE sales.tickets (
    id bigint PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES sales.orders,
    line_number integer NOT NULL,
    product_number integer NOT NULL,
    product_id text NOT NULL,
    concession text NOT NULL,
    channel text NOT NULL,
    window_id text NOT NULL,
    visit_date date NOT NULL,
    valid_days integer NOT NULL,
    slot integer NOT NULL,
    persons integer NOT NULL,
    price_minor bigint NOT NULL CHECK (price_minor >= 0),
    currency text NOT NULL,
    catalogue_version bigint NOT NULL,
    quota_keys text NOT NULL,
    sold_time timestamptz NOT NULL,
    paid_time timestamptz NOT NULL,
    park_date date NOT NULL,
    lifecycle text NOT NULL CHECK (lifecycle IN ('active', 'voiding', 'refunded', 'rescheduled')),
    replaces_ticket_id bigint REFERENCES sales.tickets,
    replaced_by_ticket_id bigint REFERENCES sales.tickets DEFERRABLE INITIALLY DEFERRED,
    token bytea NOT NULL CHECK (length(token) = 81)
);
CREATE INDEX tickets_order ON sales.tickets (order_id, id);

-- Refunds and reschedules: written as requested, then the cluster is asked, then settled. Never deleted.
CREATE TABLE sales.voids (
    id bytea PRIMARY KEY CHECK (length(id) = 16),
    request_id bytea NOT NULL,
    position integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('refund', 'reschedule')),
    ticket_id bigint NOT NULL REFERENCES sales.tickets,
    state text NOT NULL CHECK (state IN ('requested', 'done', 'already_used', 'not_allowed')),
    refusal text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    window_id text NOT NULL,
    price_minor bigint NOT NULL,
    fee_minor bigint NOT NULL DEFAULT 0,
    refund_minor bigint NOT NULL DEFAULT 0,
    visit_date date,
    slot integer,
    catalogue_version bigint NOT NULL,
    new_ticket_id bigint REFERENCES sales.tickets,
    shift_id bigint REFERENCES sales.shifts,
    cash_minor bigint NOT NULL DEFAULT 0,
    request_time timestamptz NOT NULL,
    settle_time timestamptz,
    park_date date,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_time timestamptz NOT NULL,
    CHECK ((state = 'requested') = (settle_time IS NULL)),
    CHECK (kind <> 'refund' OR price_minor = fee_minor + refund_minor)
);
CREATE INDEX voids_request ON sales.voids (request_id, position);
CREATE INDEX voids_ticket ON sales.voids (ticket_id);
CREATE INDEX voids_waiting ON sales.voids (next_attempt_time) WHERE state = 'requested';
CREATE UNIQUE INDEX voids_one_at_a_time ON sales.voids (ticket_id) WHERE state IN ('requested', 'done');
CREATE INDEX voids_shift ON sales.voids (shift_id) WHERE shift_id IS NOT NULL;

CREATE TABLE sales.transactions (
    id bytea PRIMARY KEY CHECK (length(id) = 16),
    kind text NOT NULL CHECK (kind IN ('sale', 'refund', 'reschedule', 'late_payment')),
    order_id bigint NOT NULL REFERENCES sales.orders,
    booked_time timestamptz NOT NULL,
    park_date date NOT NULL
);

-- Debits are positive, credits negative; the postings of a transaction sum to zero (I9).
CREATE TABLE sales.postings (
    transaction_id bytea NOT NULL REFERENCES sales.transactions,
    line integer NOT NULL,
    account text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
    currency text NOT NULL,
    ticket_id bigint,
    product_number integer,
    sold_time timestamptz NOT NULL,
    paid_time timestamptz NOT NULL,
    visit_date date,
    PRIMARY KEY (transaction_id, line)
);

CREATE FUNCTION sales.check_postings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added GROUP BY transaction_id, currency HAVING sum(amount_minor) <> 0) THEN
        RAISE EXCEPTION 'the postings of a transaction do not sum to zero';
    END IF;
    RETURN NULL;
END $$;
-- All postings of a transaction are inserted by one statement, so the statement is what must balance.
CREATE TRIGGER postings_balance AFTER INSERT ON sales.postings
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION sales.check_postings();

CREATE FUNCTION sales.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: book a correction instead', TG_TABLE_NAME;
END $$;
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sales.postings
    FOR EACH STATEMENT EXECUTE FUNCTION sales.refuse_change();
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sales.transactions
    FOR EACH STATEMENT EXECUTE FUNCTION sales.refuse_change();

-- What others must still be told. A row goes when it is acknowledged; rows of an aggregate go in the order of id.
CREATE TABLE sales.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aggregate bytea NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    create_time timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_time timestamptz NOT NULL,
    last_error text NOT NULL DEFAULT ''
);
CREATE INDEX outbox_aggregate ON sales.outbox (aggregate, id);

-- The contract with reporting; see docs/sales.md. Nothing else of this schema may be read from outside.
CREATE VIEW sales.finance_lines AS
    SELECT 'sold' AS kind, t.id AS ticket_id, t.order_id, t.product_number, t.product_id, t.concession, t.channel,
           t.window_id, t.price_minor AS amount_minor, t.currency, t.sold_time, t.paid_time, t.visit_date, t.park_date
    FROM sales.tickets t WHERE t.replaces_ticket_id IS NULL
    UNION ALL
    SELECT 'refund', t.id, t.order_id, t.product_number, t.product_id, t.concession, t.channel,
           t.window_id, -v.refund_minor, t.currency, t.sold_time, t.paid_time, t.visit_date, v.park_date
    FROM sales.voids v JOIN sales.tickets t ON t.id = v.ticket_id WHERE v.kind = 'refund' AND v.state = 'done'
    UNION ALL
    SELECT 'fee', t.id, t.order_id, t.product_number, t.product_id, t.concession, t.channel,
           t.window_id, v.fee_minor, t.currency, t.sold_time, t.paid_time, t.visit_date, v.park_date
    FROM sales.voids v JOIN sales.tickets t ON t.id = v.ticket_id
    WHERE v.kind = 'refund' AND v.state = 'done' AND v.fee_minor <> 0
    UNION ALL
    SELECT 'reschedule', t.id, t.order_id, t.product_number, t.product_id, t.concession, t.channel, t.window_id,
           CASE WHEN t.id = v.ticket_id THEN -t.price_minor ELSE t.price_minor END,
           t.currency, t.sold_time, t.paid_time, t.visit_date, v.park_date
    FROM sales.voids v JOIN sales.tickets t ON t.id IN (v.ticket_id, v.new_ticket_id)
    WHERE v.kind = 'reschedule' AND v.state = 'done';

CREATE VIEW sales.ticket_facts AS
    SELECT id AS ticket_id, order_id, product_number, product_id, concession, channel, window_id, price_minor, currency,
           visit_date, valid_days, slot, persons, lifecycle, replaces_ticket_id, replaced_by_ticket_id, sold_time,
           paid_time
    FROM sales.tickets;

CREATE VIEW sales.posting_lines AS
    SELECT p.transaction_id, p.line, x.kind, x.order_id, p.account, p.amount_minor, p.currency, p.ticket_id,
           p.product_number, p.sold_time, p.paid_time, p.visit_date, x.booked_time, x.park_date
    FROM sales.postings p JOIN sales.transactions x ON x.id = p.transaction_id;
