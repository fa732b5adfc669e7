-- The limits of API keys, as JSON; {} is none. Keys that exist have none.
ALTER TABLE api_keys ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';
ALTER TABLE api_keys ADD CONSTRAINT api_keys_limits CHECK (jsonb_typeof(limits) = 'object');
