-- Order books, one row each, by UTC day of received_at. Run with search_path set to coinflow's schema.

CREATE TABLE orderbook (
    exchange          text        NOT NULL,
    market            text        NOT NULL,
    exchange_ts       timestamptz,
    requested_at      timestamptz,
    received_at       timestamptz NOT NULL,
    producer_run      uuid        NOT NULL,
    producer_sequence bigint      NOT NULL,
    ask_price         numeric[]   NOT NULL,
    ask_quantity      numeric[]   NOT NULL,
    bid_price         numeric[]   NOT NULL,
    bid_quantity      numeric[]   NOT NULL,
    kafka_source      text        NOT NULL,
    kafka_topic       text        NOT NULL,
    kafka_partition   integer     NOT NULL,
    kafka_generation  integer     NOT NULL,
    kafka_offset      bigint      NOT NULL,
    -- The start of the transaction. A volatile default, such as clock_timestamp(), would make COPY insert row by row.
    stored_at         timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (received_at);

CREATE INDEX orderbook_market_idx ON orderbook (exchange, market, received_at);

COMMENT ON TABLE orderbook IS 'One order book of one market at one moment; levels best first';
COMMENT ON COLUMN orderbook.exchange_ts IS 'The exchange''s own time of the book, if it gave one';
COMMENT ON COLUMN orderbook.requested_at IS 'When producerd asked, by its clock; null for a book that was not asked for';
COMMENT ON COLUMN orderbook.received_at IS 'When producerd had the whole book, by its clock';
COMMENT ON COLUMN orderbook.producer_run IS 'One run of one producerd';
COMMENT ON COLUMN orderbook.producer_sequence IS 'Counts the books of this market in this run, from 1: a hole is a lost book';
COMMENT ON COLUMN orderbook.kafka_generation IS 'Raised when a partition''s position is reset';
COMMENT ON COLUMN orderbook.stored_at IS 'When the storing transaction began, by the database''s clock';

CREATE TABLE market (
    exchange      text        NOT NULL,
    market        text        NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, market)
);

COMMENT ON TABLE market IS 'Every market that ever had a book here';

-- One update for each batch and partition: room on the page and no further index keep these updates heap-only.
CREATE TABLE kafka_offset (
    cluster_id      text        NOT NULL,
    kafka_topic     text        NOT NULL,
    kafka_partition integer     NOT NULL,
    kafka_source    text        NOT NULL,
    generation      integer     NOT NULL DEFAULT 0,
    next_offset     bigint      NOT NULL,
    last_record_at  timestamptz,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, kafka_topic, kafka_partition)
) WITH (fillfactor = 50);

COMMENT ON TABLE kafka_offset IS 'How far each partition is stored: the truth, which the commit to Kafka follows';
COMMENT ON COLUMN kafka_offset.next_offset IS 'The first offset that is not yet stored';

CREATE TABLE offset_event (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now(),
    kafka_source    text        NOT NULL,
    kafka_topic     text        NOT NULL,
    kafka_partition integer     NOT NULL,
    generation      integer     NOT NULL,
    from_offset     bigint,
    to_offset       bigint      NOT NULL,
    kind            text        NOT NULL,
    reason          text        NOT NULL
);

COMMENT ON TABLE offset_event IS 'Each time a position was set otherwise than by storing: start, reset, overrun, recreated';

CREATE TABLE dead_letter (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kafka_source     text        NOT NULL,
    kafka_topic      text        NOT NULL,
    kafka_partition  integer     NOT NULL,
    kafka_generation integer     NOT NULL,
    kafka_offset     bigint      NOT NULL,
    record_at        timestamptz,
    key              bytea,
    headers          jsonb       NOT NULL,
    payload          bytea,
    sqlstate         text,
    reason           text        NOT NULL,
    first_seen_at    timestamptz NOT NULL DEFAULT now(),
    retried_at       timestamptz
);

CREATE INDEX dead_letter_record_idx ON dead_letter (kafka_topic, kafka_partition, kafka_offset);
CREATE INDEX dead_letter_first_seen_at_idx ON dead_letter (first_seen_at);

COMMENT ON TABLE dead_letter IS 'Records that can never be stored, with the reason';
COMMENT ON COLUMN dead_letter.headers IS 'A list of {key, value}; base64 in place of value where the bytes are no text';
COMMENT ON COLUMN dead_letter.sqlstate IS 'Why PostgreSQL refused the row; null if consumerd refused the record';

CREATE VIEW asks AS
SELECT o.exchange, o.market, o.received_at, l.level::integer AS level, l.price, l.quantity,
       o.exchange_ts, o.requested_at, o.producer_run, o.producer_sequence,
       o.kafka_source, o.kafka_topic, o.kafka_partition, o.kafka_generation, o.kafka_offset, o.stored_at
  FROM orderbook o
 CROSS JOIN LATERAL unnest(o.ask_price, o.ask_quantity) WITH ORDINALITY AS l (price, quantity, level);

CREATE VIEW bids AS
SELECT o.exchange, o.market, o.received_at, l.level::integer AS level, l.price, l.quantity,
       o.exchange_ts, o.requested_at, o.producer_run, o.producer_sequence,
       o.kafka_source, o.kafka_topic, o.kafka_partition, o.kafka_generation, o.kafka_offset, o.stored_at
  FROM orderbook o
 CROSS JOIN LATERAL unnest(o.bid_price, o.bid_quantity) WITH ORDINALITY AS l (price, quantity, level);

-- One look into the index for each market, from the newest day backwards, however big the table is.
CREATE VIEW latest AS
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
        WHERE b.exchange = m.exchange AND b.market = m.market
        ORDER BY b.received_at DESC
        LIMIT 1
       ) o;

COMMENT ON VIEW asks IS 'Offers to sell, one row for each level; level 1 is the best';
COMMENT ON VIEW bids IS 'Offers to buy, one row for each level; level 1 is the best';
COMMENT ON VIEW latest IS 'The newest book of each market';
