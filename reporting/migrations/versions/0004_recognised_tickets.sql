-- First admissions of one log entry that are alike, as `scan_runs` has them. Kept beside these, for a day's events may be
-- dropped, and what was recognised on that day stays.
CREATE TABLE reporting.first_admission_runs (
    park_date date NOT NULL,
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    admit_time timestamptz NOT NULL,
    product_number integer NOT NULL,
    scan_ids bytea NOT NULL,
    ticket_ids bigint[] NOT NULL,
    gate_numbers integer[] NOT NULL
);
CREATE INDEX first_admission_runs_day ON reporting.first_admission_runs USING brin (park_date);
-- Ids are random and numbers few: trying to compress them costs more than it saves.
ALTER TABLE reporting.first_admission_runs
    ALTER COLUMN scan_ids SET STORAGE EXTERNAL,
    ALTER COLUMN ticket_ids SET STORAGE EXTERNAL,
    ALTER COLUMN gate_numbers SET STORAGE EXTERNAL;

-- First admissions that counted until somebody did not pass: those of the ticket that came before this place of the log.
CREATE TABLE reporting.undone_first_admissions (
    ticket_id bigint NOT NULL,
    partition text NOT NULL,
    sequence bigint NOT NULL,
    position integer NOT NULL,
    PRIMARY KEY (ticket_id, sequence, position)
);

-- Which tickets are recognised now, a bit each: nothing is recognised twice. Ticket t is bit t % 2048, from the left, of
-- block t / 2048. A crowd changes a few blocks, where a key for each ticket would be a row and an entry of an index.
CREATE TABLE reporting.recognised_tickets (
    partition text NOT NULL,
    block bigint NOT NULL,
    tickets bit(2048) NOT NULL,
    PRIMARY KEY (partition, block)
) WITH (fillfactor = 50);

-- A worker of an earlier version may be in the midst of a transaction: what it commits is moved too.
LOCK TABLE reporting.first_admissions IN ACCESS EXCLUSIVE MODE;

INSERT INTO reporting.first_admission_runs
SELECT
    park_date, partition, 0, 0, admit_time, product_number, string_agg(scan_id, ''::bytea ORDER BY ticket_id),
    array_agg(ticket_id ORDER BY ticket_id), array_agg(gate_number ORDER BY ticket_id)
FROM reporting.first_admissions
GROUP BY park_date, partition, admit_time, product_number;

INSERT INTO reporting.recognised_tickets
SELECT partition, ticket_id >> 11, bit_or(set_bit(0::bit(2048), (ticket_id & 2047)::integer, 1))
FROM reporting.first_admissions
GROUP BY partition, ticket_id >> 11;

DROP TABLE reporting.first_admissions;

-- Tickets whose revenue is recognised.
CREATE VIEW reporting.first_admissions AS
SELECT
    m.ticket_id, r.partition, r.park_date, r.admit_time, m.gate_number, r.product_number,
    substring(r.scan_ids FROM (16 * (m.nth - 1) + 1)::integer FOR 16) AS scan_id
FROM
    reporting.first_admission_runs AS r,
    unnest(r.ticket_ids, r.gate_numbers) WITH ORDINALITY AS m (ticket_id, gate_number, nth)
WHERE NOT EXISTS (
    SELECT FROM reporting.undone_first_admissions AS u
    WHERE u.ticket_id = m.ticket_id AND (u.sequence, u.position) > (r.sequence, r.position + m.nth - 1)
);
