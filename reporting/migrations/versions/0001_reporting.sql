-- What the partitions' logs say, read once. Times are UTC; park_date is the civil day of the park at event_time.
-- Every table carries the partition that wrote it, so workers never wait for each other's rows.

-- How far each partition has been read. Moved in the transaction that writes what was read; its row is the lock.
CREATE TABLE reporting.offsets (
    partition text PRIMARY KEY,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    epoch bigint NOT NULL,
    entry_time timestamptz,
    park_date date,
    CHECK ((sequence = 0) = (entry_time IS NULL))
);

-- Every scan, admitted or not, for auditors. Partitioned by day, days made on demand. No index: it is read by day, and
-- keeping one for random ids would cost more than the rest of the work together.
CREATE TABLE reporting.scan_events (
    park_date date NOT NULL,
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    event_time timestamptz NOT NULL,
    scan_id bytea NOT NULL,
    ticket_id bigint NOT NULL,
    gate_number integer NOT NULL,
    zone_number integer NOT NULL,
    product_number integer NOT NULL,
    direction smallint NOT NULL,
    decision smallint NOT NULL,
    reason smallint NOT NULL,
    kind smallint NOT NULL,
    persons integer NOT NULL,
    scan_time timestamptz NOT NULL,
    verification smallint NOT NULL,
    first_admission boolean NOT NULL
) PARTITION BY RANGE (park_date);

-- What became of admissions.
CREATE TABLE reporting.passage_events (
    park_date date NOT NULL,
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    event_time timestamptz NOT NULL,
    scan_id bytea NOT NULL,
    ticket_id bigint NOT NULL,
    gate_number integer NOT NULL,
    zone_number integer NOT NULL,
    product_number integer NOT NULL,
    outcome smallint NOT NULL,
    persons_given_back integer NOT NULL,
    kind smallint NOT NULL,
    first_admission_undone boolean NOT NULL
) PARTITION BY RANGE (park_date);

-- Tickets registered (from_lifecycle 0) and changed.
CREATE TABLE reporting.ticket_events (
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    event_time timestamptz NOT NULL,
    park_date date NOT NULL,
    ticket_id bigint NOT NULL,
    product_number integer NOT NULL,
    from_lifecycle smallint NOT NULL,
    to_lifecycle smallint NOT NULL,
    price_minor bigint NOT NULL,
    request_id bytea NOT NULL,
    registered boolean NOT NULL,
    PRIMARY KEY (partition, sequence, position)
);
CREATE INDEX ticket_events_ticket ON reporting.ticket_events (ticket_id);

-- Holds, quotas, capacity, limits and alerts: rarer, read by people, kept as they were written.
CREATE TABLE reporting.quota_events (
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    event_time timestamptz NOT NULL,
    park_date date NOT NULL,
    kind text NOT NULL,
    body jsonb NOT NULL,
    PRIMARY KEY (partition, sequence, position)
);

CREATE TABLE reporting.scan_minutes (
    partition text NOT NULL,
    minute timestamptz NOT NULL,
    park_date date NOT NULL,
    gate_number integer NOT NULL,
    zone_number integer NOT NULL,
    product_number integer NOT NULL,
    direction smallint NOT NULL,
    decision smallint NOT NULL,
    reason smallint NOT NULL,
    kind smallint NOT NULL,
    scans bigint NOT NULL,
    persons bigint NOT NULL,
    PRIMARY KEY (partition, minute, gate_number, zone_number, product_number, direction, decision, reason, kind)
);
CREATE INDEX scan_minutes_day ON reporting.scan_minutes (park_date);

CREATE TABLE reporting.passage_minutes (
    partition text NOT NULL,
    minute timestamptz NOT NULL,
    park_date date NOT NULL,
    gate_number integer NOT NULL,
    zone_number integer NOT NULL,
    product_number integer NOT NULL,
    kind smallint NOT NULL,
    outcome smallint NOT NULL,
    passages bigint NOT NULL,
    persons_given_back bigint NOT NULL,
    PRIMARY KEY (partition, minute, gate_number, zone_number, product_number, kind, outcome)
);
CREATE INDEX passage_minutes_day ON reporting.passage_minutes (park_date);

CREATE TABLE reporting.ticket_days (
    partition text NOT NULL,
    park_date date NOT NULL,
    product_number integer NOT NULL,
    from_lifecycle smallint NOT NULL,
    to_lifecycle smallint NOT NULL,
    registered boolean NOT NULL,
    tickets bigint NOT NULL,
    price_minor bigint NOT NULL,
    PRIMARY KEY (partition, park_date, product_number, from_lifecycle, to_lifecycle, registered)
);

-- Tickets whose revenue is recognised: a row is there from the first admission until it is undone.
CREATE TABLE reporting.first_admissions (
    ticket_id bigint PRIMARY KEY,
    partition text NOT NULL,
    park_date date NOT NULL,
    admit_time timestamptz NOT NULL,
    gate_number integer NOT NULL,
    product_number integer NOT NULL,
    scan_id bytea NOT NULL
);
CREATE INDEX first_admissions_day ON reporting.first_admissions (park_date);
