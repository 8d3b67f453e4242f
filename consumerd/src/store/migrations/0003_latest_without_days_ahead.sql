-- The view latest looks into no day that cannot have a book yet. Run with search_path set to coinflow's schema.

-- consumerd stores no book that is more than an hour ahead of its own clock; the other hour is for a server whose clock
-- differs from that.
CREATE OR REPLACE VIEW latest AS
SELECT o.*,
       o.ask_price[1]                  AS best_ask_price,
       o.ask_quantity[1]               AS best_ask_quantity,
       o.bid_price[1]                  AS best_bid_price,
       o.bid_quantity[1]               AS best_bid_quantity,
       o.ask_price[1] - o.bid_price[1] AS spread,
       now() - o.received_at           AS age
  FROM market m
 CROSS JOIN LATERAL (
       SELECT *
         FROM orderbook b
        WHERE b.exchange = m.exchange AND b.market = m.market AND b.received_at < now() + interval '2 hours'
        ORDER BY b.received_at DESC
        LIMIT 1
       ) o;
