-- Which record last_record_at is of: at the next start it is looked at again, and one of another time tells that the topic
-- has been made anew. Run with search_path set to coinflow's schema.

ALTER TABLE kafka_offset ADD COLUMN last_record_offset bigint;

COMMENT ON COLUMN kafka_offset.last_record_at IS 'Kafka''s time of the last record that was stored and had one';
COMMENT ON COLUMN kafka_offset.last_record_offset IS 'The offset of that record';
