-- A provider that stays silent is asked: when next, and how often it was.
ALTER TABLE sales.payments ADD COLUMN next_ask_time timestamptz;
ALTER TABLE sales.payments ADD COLUMN asked integer NOT NULL DEFAULT 0;
UPDATE sales.payments SET next_ask_time = create_time WHERE state = 'pending';
ALTER TABLE sales.payments ADD CHECK (state <> 'pending' OR next_ask_time IS NOT NULL);
CREATE INDEX payments_pending ON sales.payments (next_ask_time) WHERE state = 'pending';
