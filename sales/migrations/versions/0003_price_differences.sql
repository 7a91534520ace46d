-- Positive: the guest pays so much more for the new date; negative: is paid back so much.
ALTER TABLE sales.voids ADD COLUMN difference_minor bigint NOT NULL DEFAULT 0;
ALTER TABLE sales.voids ADD CHECK (kind = 'reschedule' OR difference_minor = 0);
ALTER TABLE sales.voids ADD CHECK (price_minor + difference_minor >= 0);
