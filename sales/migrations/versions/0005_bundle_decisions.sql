-- What was decided of a bundle as a whole, before its tickets are voided or let free: a state; '': nothing yet.
ALTER TABLE sales.voids ADD COLUMN decision text NOT NULL DEFAULT '';
