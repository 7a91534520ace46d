-- Tickets of one bundle have the same order and bundle_number; '' and 0: sold on its own.
ALTER TABLE sales.tickets ADD COLUMN bundle_id text NOT NULL DEFAULT '';
ALTER TABLE sales.tickets ADD COLUMN bundle_number integer NOT NULL DEFAULT 0;
ALTER TABLE sales.tickets ADD CHECK ((bundle_id = '') = (bundle_number = 0));
-- The order and number of the bundle that is refunded as a whole; '': one ticket on its own.
ALTER TABLE sales.voids ADD COLUMN bundle text NOT NULL DEFAULT '';
