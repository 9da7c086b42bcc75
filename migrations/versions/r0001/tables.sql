-- Base tables, as store.tables declared them when this revision was written.
-- {partitioned} is PARTITION BY RANGE (ts) on plain PostgreSQL and nothing elsewhere.

CREATE TABLE tollwatch.api_requests (
    project_id INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    id UUID NOT NULL,
    request_id UUID NOT NULL,
    attempt SMALLINT NOT NULL,
    max_retries SMALLINT NOT NULL,
    agent_id INTEGER NOT NULL,
    wallet_id INTEGER,
    session_id UUID,
    service TEXT COLLATE "C" NOT NULL,
    endpoint_type TEXT COLLATE "C",
    resource TEXT,
    method TEXT COLLATE "C",
    response_status SMALLINT,
    x402_version SMALLINT,
    payment_required JSONB,
    payment_id UUID,
    paid BOOLEAN NOT NULL,
    latency_ms BIGINT,
    backoff_ms BIGINT NOT NULL,
    component TEXT COLLATE "C",
    breaker_state TEXT COLLATE "C",
    outcome TEXT COLLATE "C" NOT NULL,
    error_type TEXT COLLATE "C",
    failure_reason TEXT,
    request_digest BYTEA,
    response_digest BYTEA,
    response_bytes BIGINT,
    data_as_of TIMESTAMP WITH TIME ZONE,
    origin TEXT COLLATE "C" NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT api_requests_pkey PRIMARY KEY (project_id, ts, id),
    CONSTRAINT api_requests_ts_finite_check CHECK (isfinite(ts)),
    CONSTRAINT api_requests_outcome_check CHECK (outcome IN ('ok', 'payment_required', 'retrying', 'failed', 'skipped_open')),
    CONSTRAINT api_requests_origin_check CHECK (origin IN ('agent', 'facilitator', 'chain', 'collector', 'import')),
    CONSTRAINT api_requests_attempt_check CHECK (attempt BETWEEN 1 AND max_retries + 1)
) {partitioned};

COMMENT ON TABLE tollwatch.api_requests IS 'One row per attempt of a logical request.';

CREATE INDEX api_requests_project_id_request_id_ts_idx ON tollwatch.api_requests (project_id, request_id, ts);

CREATE TABLE tollwatch.audit_events (
    project_id INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    id UUID NOT NULL,
    event_type TEXT COLLATE "C" NOT NULL,
    severity TEXT COLLATE "C" NOT NULL,
    agent_id INTEGER,
    component TEXT COLLATE "C",
    request_id UUID,
    entity_type TEXT COLLATE "C",
    entity_id TEXT COLLATE "C",
    details JSONB,
    origin TEXT COLLATE "C" NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT audit_events_pkey PRIMARY KEY (project_id, ts, id),
    CONSTRAINT audit_events_ts_finite_check CHECK (isfinite(ts)),
    CONSTRAINT audit_events_severity_check CHECK (severity IN ('debug', 'info', 'warning', 'error', 'critical')),
    CONSTRAINT audit_events_origin_check CHECK (origin IN ('agent', 'facilitator', 'chain', 'collector', 'import'))
) {partitioned};

CREATE INDEX audit_events_breaker_idx ON tollwatch.audit_events (project_id, agent_id, component, ts) WHERE event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed');

CREATE TABLE tollwatch.balance_samples (
    project_id INTEGER NOT NULL,
    wallet_id INTEGER NOT NULL,
    asset_id INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    agent_id INTEGER NOT NULL,
    amount BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    commitment TEXT COLLATE "C" NOT NULL,
    threshold BIGINT,
    status TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    change BIGINT,
    origin TEXT COLLATE "C" NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT balance_samples_pkey PRIMARY KEY (project_id, wallet_id, asset_id, ts),
    CONSTRAINT balance_samples_ts_finite_check CHECK (isfinite(ts)),
    CONSTRAINT balance_samples_amount_not_negative_check CHECK (amount >= 0),
    CONSTRAINT balance_samples_status_check CHECK (status IN ('sufficient', 'low', 'paused')),
    CONSTRAINT balance_samples_commitment_check CHECK (commitment IN ('processed', 'confirmed', 'finalized')),
    CONSTRAINT balance_samples_origin_check CHECK (origin IN ('agent', 'facilitator', 'chain', 'collector', 'import'))
) {partitioned};

COMMENT ON TABLE tollwatch.balance_samples IS 'change: since the newest sample before it by slot; NULL for the first and for one that came late.';

CREATE TABLE tollwatch.payments (
    project_id INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    id UUID NOT NULL,
    payment_id UUID NOT NULL,
    request_id UUID,
    x402_payment_id TEXT,
    agent_id INTEGER NOT NULL,
    wallet_id INTEGER,
    session_id UUID,
    status TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL,
    asset_id INTEGER NOT NULL,
    pay_to BYTEA,
    service TEXT COLLATE "C" NOT NULL,
    resource TEXT,
    facilitator TEXT COLLATE "C",
    signature BYTEA,
    slot BIGINT,
    commitment TEXT COLLATE "C",
    confirmations INTEGER,
    fee_lamports BIGINT,
    retry_count SMALLINT NOT NULL,
    backoff_ms BIGINT NOT NULL,
    is_duplicate BOOLEAN NOT NULL,
    error_type TEXT COLLATE "C",
    failure_reason TEXT,
    facilitator_response JSONB,
    metadata JSONB,
    origin TEXT COLLATE "C" NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT payments_pkey PRIMARY KEY (project_id, ts, id),
    CONSTRAINT payments_ts_finite_check CHECK (isfinite(ts)),
    CONSTRAINT payments_amount_not_negative_check CHECK (amount >= 0),
    CONSTRAINT payments_status_check CHECK (status IN ('unknown', 'pending', 'retrying', 'verified', 'failed', 'settled', 'reverted')),
    CONSTRAINT payments_origin_check CHECK (origin IN ('agent', 'facilitator', 'chain', 'collector', 'import'))
) {partitioned};

COMMENT ON TABLE tollwatch.payments IS 'One row per transition of a payment; is_duplicate rows add to no sum.';

CREATE INDEX payments_session_idx ON tollwatch.payments (project_id, session_id, ts) WHERE session_id IS NOT NULL;

CREATE TABLE tollwatch.projects (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT projects_pkey PRIMARY KEY (id),
    CONSTRAINT projects_name_key UNIQUE (name)
);

CREATE TABLE tollwatch.queue_events (
    project_id INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    id UUID NOT NULL,
    agent_id INTEGER NOT NULL,
    request_id UUID NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    priority_score DOUBLE PRECISION,
    reason TEXT COLLATE "C",
    asset_id INTEGER,
    balance BIGINT,
    freshness_s BIGINT,
    origin TEXT COLLATE "C" NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT queue_events_pkey PRIMARY KEY (project_id, ts, id),
    CONSTRAINT queue_events_ts_finite_check CHECK (isfinite(ts)),
    CONSTRAINT queue_events_state_check CHECK (state IN ('queued', 'processed', 'dropped')),
    CONSTRAINT queue_events_reason_check CHECK (reason IN ('funds', 'breaker', 'rpc')),
    CONSTRAINT queue_events_origin_check CHECK (origin IN ('agent', 'facilitator', 'chain', 'collector', 'import'))
) {partitioned};

COMMENT ON TABLE tollwatch.queue_events IS 'A request that an agent put off: balance and freshness at the decision.';

CREATE TABLE tollwatch.schema_info (
    one_row BOOLEAN DEFAULT true NOT NULL CONSTRAINT schema_info_one_row_check CHECK (one_row),
    edition TEXT COLLATE "C" NOT NULL,
    timescaledb_version TEXT COLLATE "C",
    horizons JSONB DEFAULT '{}' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT schema_info_pkey PRIMARY KEY (one_row),
    CONSTRAINT schema_info_edition_check CHECK (edition IN ('plain', 'apache', 'community'))
);

COMMENT ON TABLE tollwatch.schema_info IS 'One row: the edition found at the first migration, and the horizons that policies were made for.';

CREATE TABLE tollwatch.totals_state (
    relation TEXT COLLATE "C" NOT NULL,
    folded_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT totals_state_pkey PRIMARY KEY (relation)
);

COMMENT ON TABLE tollwatch.totals_state IS 'Rollup buckets before folded_until are in the totals; those from it on are added when read.';

CREATE TABLE tollwatch.agents (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    project_id INTEGER NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    autonomy_phase TEXT COLLATE "C" DEFAULT 'demo' NOT NULL,
    network TEXT COLLATE "C" NOT NULL,
    api_endpoints JSONB DEFAULT '[]' NOT NULL,
    priority_rules JSONB DEFAULT '{}' NOT NULL,
    max_retries SMALLINT DEFAULT 3 NOT NULL,
    low_balance_threshold NUMERIC(38, 18) DEFAULT 0.01 NOT NULL,
    breaker_timeout_s INTEGER DEFAULT 300 NOT NULL,
    active BOOLEAN DEFAULT true NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT agents_pkey PRIMARY KEY (id),
    CONSTRAINT agents_project_id_name_key UNIQUE (project_id, name),
    CONSTRAINT agents_autonomy_phase_check CHECK (autonomy_phase IN ('demo', 'interactive', 'full')),
    CONSTRAINT agents_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.agents IS 'low_balance_threshold is in whole tokens: the fallback where a wallet names none for an asset.';

CREATE TABLE tollwatch.api_keys (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    scopes TEXT[] COLLATE "C" NOT NULL,
    rate_limit INTEGER,
    last_used_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    created_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id),
    CONSTRAINT api_keys_hash_key UNIQUE (hash)
);

CREATE INDEX api_keys_project_id_idx ON tollwatch.api_keys (project_id);

CREATE TABLE tollwatch.assets (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    project_id INTEGER,
    network TEXT COLLATE "C" NOT NULL,
    mint BYTEA,
    symbol TEXT COLLATE "C" NOT NULL,
    decimals SMALLINT,
    token_program BYTEA,
    registered BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT assets_pkey PRIMARY KEY (id),
    CONSTRAINT assets_project_id_network_mint_key UNIQUE NULLS NOT DISTINCT (project_id, network, mint),
    CONSTRAINT assets_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.assets IS 'project_id NULL: known to everyone. Unregistered ones were named by an event; their symbol is the mint.';

CREATE TABLE tollwatch.audit_resolutions (
    project_id INTEGER NOT NULL,
    event_id UUID NOT NULL,
    event_ts TIMESTAMP WITH TIME ZONE NOT NULL,
    resolved_by TEXT NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    note TEXT,
    automatic BOOLEAN NOT NULL,
    CONSTRAINT audit_resolutions_pkey PRIMARY KEY (project_id, event_id),
    CONSTRAINT audit_resolutions_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.audit_resolutions IS 'Who dealt with an audit event, and when. breaker_closed resolves breaker_opened (automatic).';

CREATE TABLE tollwatch.audit_totals (
    project_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    event_type TEXT COLLATE "C" NOT NULL,
    severity TEXT COLLATE "C" NOT NULL,
    component TEXT COLLATE "C" NOT NULL,
    events BIGINT NOT NULL,
    CONSTRAINT audit_totals_pkey PRIMARY KEY (project_id, agent_id, event_type, severity, component),
    CONSTRAINT audit_totals_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.audit_totals IS 'agent_id 0: an event of no agent.';

CREATE TABLE tollwatch.balance_heads (
    project_id INTEGER NOT NULL,
    wallet_id INTEGER NOT NULL,
    asset_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    amount BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    commitment TEXT COLLATE "C" NOT NULL,
    threshold BIGINT,
    status TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    CONSTRAINT balance_heads_pkey PRIMARY KEY (project_id, wallet_id, asset_id),
    CONSTRAINT balance_heads_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.balance_heads IS 'Latest balance by slot: never goes back to a lower slot.';

CREATE TABLE tollwatch.breaker_heads (
    project_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    component TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    event_id UUID NOT NULL,
    CONSTRAINT breaker_heads_pkey PRIMARY KEY (project_id, agent_id, component),
    CONSTRAINT breaker_heads_state_check CHECK (state IN ('closed', 'open', 'half_open')),
    CONSTRAINT breaker_heads_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

CREATE TABLE tollwatch.latency_totals (
    project_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    latency_bucket INTEGER NOT NULL,
    requests BIGINT NOT NULL,
    CONSTRAINT latency_totals_pkey PRIMARY KEY (project_id, agent_id, service, latency_bucket),
    CONSTRAINT latency_totals_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

CREATE TABLE tollwatch.payment_heads (
    project_id INTEGER NOT NULL,
    payment_id UUID NOT NULL,
    agent_id INTEGER NOT NULL,
    asset_id INTEGER NOT NULL,
    amount BIGINT NOT NULL,
    told INTEGER NOT NULL,
    rank SMALLINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    origin TEXT COLLATE "C" NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    opened_ts TIMESTAMP WITH TIME ZONE NOT NULL,
    request_id UUID,
    signature BYTEA,
    CONSTRAINT payment_heads_pkey PRIMARY KEY (project_id, payment_id),
    CONSTRAINT payment_heads_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.payment_heads IS 'Present state of a payment: its highest-ranking transition. told: bit set of the statuses counted.';

CREATE INDEX payment_heads_open_idx ON tollwatch.payment_heads (project_id, opened_ts) WHERE rank < 100;

CREATE TABLE tollwatch.payment_settlements (
    project_id INTEGER NOT NULL,
    signature BYTEA NOT NULL,
    payment_id UUID NOT NULL,
    CONSTRAINT payment_settlements_pkey PRIMARY KEY (project_id, signature),
    CONSTRAINT payment_settlements_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.payment_settlements IS 'Which payment a transaction settled: the same signature under another payment is a duplicate.';

CREATE TABLE tollwatch.payment_totals (
    project_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    asset_id INTEGER NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    origin TEXT COLLATE "C" NOT NULL,
    payments BIGINT NOT NULL,
    amount NUMERIC(78, 0) NOT NULL,
    CONSTRAINT payment_totals_pkey PRIMARY KEY (project_id, agent_id, asset_id, status, origin),
    CONSTRAINT payment_totals_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

CREATE TABLE tollwatch.project_roles (
    role TEXT COLLATE "C" NOT NULL,
    project_id INTEGER NOT NULL,
    purpose TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT project_roles_pkey PRIMARY KEY (role),
    CONSTRAINT project_roles_purpose_check CHECK (purpose IN ('owner', 'writer', 'reader')),
    CONSTRAINT project_roles_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.project_roles IS 'Which project a database login may see: barrier views compare session_user with it.';

CREATE TABLE tollwatch.queue_heads (
    project_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    request_id UUID NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    queued_ts TIMESTAMP WITH TIME ZONE,
    priority_score DOUBLE PRECISION,
    reason TEXT COLLATE "C",
    CONSTRAINT queue_heads_pkey PRIMARY KEY (project_id, agent_id, request_id),
    CONSTRAINT queue_heads_state_check CHECK (state IN ('queued', 'processed', 'dropped')),
    CONSTRAINT queue_heads_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

COMMENT ON TABLE tollwatch.queue_heads IS 'Present state of a request that was put off: by time; at one time processed or dropped comes last.';

CREATE INDEX queue_heads_waiting_idx ON tollwatch.queue_heads (project_id, agent_id) WHERE state = 'queued';

CREATE TABLE tollwatch.request_totals (
    project_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    requests BIGINT NOT NULL,
    retries BIGINT NOT NULL,
    latency_ms_sum NUMERIC(78, 0) NOT NULL,
    CONSTRAINT request_totals_pkey PRIMARY KEY (project_id, agent_id, service, outcome),
    CONSTRAINT request_totals_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id)
);

CREATE TABLE tollwatch.wallets (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    project_id INTEGER NOT NULL,
    agent_id INTEGER,
    network TEXT COLLATE "C" NOT NULL,
    address BYTEA NOT NULL,
    address_text TEXT COLLATE "C" NOT NULL,
    registered BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT wallets_pkey PRIMARY KEY (id),
    CONSTRAINT wallets_project_id_network_address_key UNIQUE (project_id, network, address),
    CONSTRAINT wallets_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id),
    CONSTRAINT wallets_agent_id_fkey FOREIGN KEY(agent_id) REFERENCES tollwatch.agents (id)
);

COMMENT ON TABLE tollwatch.wallets IS 'Unregistered ones were named by an event: kept as evidence, not sampled.';

CREATE INDEX wallets_agent_id_idx ON tollwatch.wallets (agent_id);

CREATE TABLE tollwatch.wallet_sessions (
    project_id INTEGER NOT NULL,
    id UUID NOT NULL,
    agent_id INTEGER NOT NULL,
    wallet_id INTEGER NOT NULL,
    token_hash BYTEA NOT NULL,
    scope JSONB DEFAULT '{}' NOT NULL,
    tx_used INTEGER DEFAULT 0 NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    delegated_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT wallet_sessions_pkey PRIMARY KEY (project_id, id),
    CONSTRAINT wallet_sessions_project_id_token_hash_key UNIQUE (project_id, token_hash),
    CONSTRAINT wallet_sessions_status_check CHECK (status IN ('active', 'expired', 'revoked')),
    CONSTRAINT wallet_sessions_tx_used_not_negative_check CHECK (tx_used >= 0),
    CONSTRAINT wallet_sessions_project_id_fkey FOREIGN KEY(project_id) REFERENCES tollwatch.projects (id),
    CONSTRAINT wallet_sessions_agent_id_fkey FOREIGN KEY(agent_id) REFERENCES tollwatch.agents (id),
    CONSTRAINT wallet_sessions_wallet_id_fkey FOREIGN KEY(wallet_id) REFERENCES tollwatch.wallets (id)
);

COMMENT ON TABLE tollwatch.wallet_sessions IS 'What an agent may spend from a wallet: scope {permissions, tx_limit, duration_s}. No token is stored.';

CREATE INDEX wallet_sessions_agent_id_idx ON tollwatch.wallet_sessions (agent_id);

CREATE TABLE tollwatch.wallet_thresholds (
    wallet_id INTEGER NOT NULL,
    asset_id INTEGER NOT NULL,
    amount BIGINT NOT NULL,
    CONSTRAINT wallet_thresholds_pkey PRIMARY KEY (wallet_id, asset_id),
    CONSTRAINT wallet_thresholds_amount_not_negative_check CHECK (amount >= 0),
    CONSTRAINT wallet_thresholds_wallet_id_fkey FOREIGN KEY(wallet_id) REFERENCES tollwatch.wallets (id),
    CONSTRAINT wallet_thresholds_asset_id_fkey FOREIGN KEY(asset_id) REFERENCES tollwatch.assets (id)
);
