-- A worker of the version before may be writing: what it commits now would be dropped unread.
LOCK TABLE reporting.scan_events, reporting.passage_events IN ACCESS EXCLUSIVE MODE;

ALTER TABLE reporting.scan_events RENAME TO scan_rows;
ALTER TABLE reporting.passage_events RENAME TO passage_rows;

-- Scans of one log entry that are alike, in the order in which they were decided: `position` is the first one's, those
-- that follow count up. Refusals and rare admissions are runs of one. `scan_ids` has 16 bytes for each.
CREATE TABLE reporting.scan_runs (
    park_date date NOT NULL,
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    event_time timestamptz NOT NULL,
    zone_number integer NOT NULL,
    product_number integer NOT NULL,
    direction smallint NOT NULL,
    decision smallint NOT NULL,
    reason smallint NOT NULL,
    kind smallint NOT NULL,
    persons integer NOT NULL,
    verification smallint NOT NULL,
    first_admission boolean NOT NULL,
    scan_ids bytea NOT NULL,
    ticket_ids bigint[] NOT NULL,
    gate_numbers integer[] NOT NULL,
    scan_times timestamptz[] NOT NULL
) PARTITION BY RANGE (park_date);

CREATE TABLE reporting.passage_runs (
    park_date date NOT NULL,
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    event_time timestamptz NOT NULL,
    zone_number integer NOT NULL,
    product_number integer NOT NULL,
    outcome smallint NOT NULL,
    persons_given_back integer NOT NULL,
    kind smallint NOT NULL,
    first_admission_undone boolean NOT NULL,
    scan_ids bytea NOT NULL,
    ticket_ids bigint[] NOT NULL,
    gate_numbers integer[] NOT NULL
) PARTITION BY RANGE (park_date);

-- Ids are random and numbers few: trying to compress them costs more than it saves.
ALTER TABLE reporting.scan_runs
    ALTER COLUMN scan_ids SET STORAGE EXTERNAL,
    ALTER COLUMN ticket_ids SET STORAGE EXTERNAL,
    ALTER COLUMN gate_numbers SET STORAGE EXTERNAL,
    ALTER COLUMN scan_times SET STORAGE EXTERNAL;
ALTER TABLE reporting.passage_runs
    ALTER COLUMN scan_ids SET STORAGE EXTERNAL,
    ALTER COLUMN ticket_ids SET STORAGE EXTERNAL,
    ALTER COLUMN gate_numbers SET STORAGE EXTERNAL;

CREATE VIEW reporting.scan_events AS
SELECT
    r.park_date, r.partition, r.sequence, (r.position + m.nth - 1)::integer AS position, r.event_time,
    substring(r.scan_ids FROM (16 * (m.nth - 1) + 1)::integer FOR 16) AS scan_id,
    m.ticket_id, m.gate_number, r.zone_number, r.product_number, r.direction, r.decision, r.reason, r.kind, r.persons,
    m.scan_time, r.verification, r.first_admission
FROM
    reporting.scan_runs AS r,
    unnest(r.ticket_ids, r.gate_numbers, r.scan_times) WITH ORDINALITY AS m (ticket_id, gate_number, scan_time, nth);

CREATE VIEW reporting.passage_events AS
SELECT
    r.park_date, r.partition, r.sequence, (r.position + m.nth - 1)::integer AS position, r.event_time,
    substring(r.scan_ids FROM (16 * (m.nth - 1) + 1)::integer FOR 16) AS scan_id,
    m.ticket_id, m.gate_number, r.zone_number, r.product_number, r.outcome, r.persons_given_back, r.kind,
    r.first_admission_undone
FROM
    reporting.passage_runs AS r,
    unnest(r.ticket_ids, r.gate_numbers) WITH ORDINALITY AS m (ticket_id, gate_number, nth);

-- What was there: a table a day for each day that had one, and rows that are alike and follow each other as runs.
DO $$
DECLARE
    day date;
    kind text;
BEGIN
    FOR day, kind IN
        SELECT right(relname, 8)::date, substring(relname FROM '^(scan|passage)_events_')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'reporting' AND relkind = 'r' AND relname ~ '^(scan|passage)_events_\d{8}$'
    LOOP
        EXECUTE format(
            'CREATE TABLE reporting.%I PARTITION OF reporting.%I FOR VALUES FROM (%L) TO (%L)',
            kind || '_runs_' || to_char(day, 'YYYYMMDD'), kind || '_runs', day, day + 1
        );
    END LOOP;
END $$;

INSERT INTO reporting.scan_runs
SELECT
    park_date, partition, sequence, min(position), event_time, zone_number, product_number, direction, decision, reason,
    kind, persons, verification, first_admission, string_agg(scan_id, ''::bytea ORDER BY position),
    array_agg(ticket_id ORDER BY position), array_agg(gate_number ORDER BY position),
    array_agg(scan_time ORDER BY position)
FROM (
    SELECT *, position - row_number() OVER (
        PARTITION BY
            park_date, partition, sequence, event_time, zone_number, product_number, direction, decision, reason, kind,
            persons, verification, first_admission
        ORDER BY position
    ) AS run
    FROM reporting.scan_rows
) AS numbered
GROUP BY
    park_date, partition, sequence, event_time, zone_number, product_number, direction, decision, reason, kind, persons,
    verification, first_admission, run;

INSERT INTO reporting.passage_runs
SELECT
    park_date, partition, sequence, min(position), event_time, zone_number, product_number, outcome, persons_given_back,
    kind, first_admission_undone, string_agg(scan_id, ''::bytea ORDER BY position),
    array_agg(ticket_id ORDER BY position), array_agg(gate_number ORDER BY position)
FROM (
    SELECT *, position - row_number() OVER (
        PARTITION BY
            park_date, partition, sequence, event_time, zone_number, product_number, outcome, persons_given_back, kind,
            first_admission_undone
        ORDER BY position
    ) AS run
    FROM reporting.passage_rows
) AS numbered
GROUP BY
    park_date, partition, sequence, event_time, zone_number, product_number, outcome, persons_given_back, kind,
    first_admission_undone, run;

DROP TABLE reporting.scan_rows, reporting.passage_rows;
