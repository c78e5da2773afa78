-- A batch of rate limit operations, one after the other, each all or none: the rules of routing/domain/limits.py.
--
-- KEYS     one hash (second -> amount) or sorted set (member -> when its slot lapses) for each cell of the batch
-- ARGV[1]  now in ms; 0: this server's clock
-- ARGV[2]  MessagePack: the operations, each {act, member, second, {{position in KEYS, is slot, limit, amount}, ...}}
-- returns  MessagePack: {now in ms, for each operation the levels {limit, used, wait ms, reset ms} of its cells or {}}

local WINDOW_S, SLOT_TTL_MS, SLOT_WAIT_MS, NEVER = 60, 45000, 1000, -1
local TAKE, CORRECT = 0, 1

local now = tonumber(ARGV[1])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
local this_second = math.floor(now / 1000)

local function leaves_ms(second)
  return (second + WINDOW_S + 1) * 1000 - now
end

-- what counts, its sum, and the newest second; forgets what no longer counts
local function read_buckets(key)
  local flat = redis.call('HGETALL', key)
  local buckets, used, newest = {}, 0, nil
  for i = 1, #flat, 2 do
    local second, amount = tonumber(flat[i]), tonumber(flat[i + 1])
    if second < this_second - WINDOW_S then
      redis.call('HDEL', key, flat[i])
    else
      buckets[#buckets + 1] = {second, amount}
      used = used + amount
      if not newest or second > newest then newest = second end
    end
  end
  return buckets, used, newest
end

local function wait_ms(buckets, excess)
  if excess <= 0 then return 0 end
  table.sort(buckets, function(a, b) return a[1] < b[1] end)
  for _, bucket in ipairs(buckets) do
    excess = excess - bucket[2]
    if excess <= 0 then return leaves_ms(bucket[1]) end
  end
  return NEVER
end

local function add(key, amount)
  redis.call('HINCRBY', key, this_second, amount)
  redis.call('EXPIRE', key, WINDOW_S + 2)
end

local function hold_slot(key, member)
  redis.call('ZADD', key, now + SLOT_TTL_MS, member)
  redis.call('PEXPIRE', key, SLOT_TTL_MS)
end

local function slot_level(key, member, limit)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local used = redis.call('ZCARD', key)
  local fits = used < limit or redis.call('ZSCORE', key, member)
  return {limit, used, fits and 0 or SLOT_WAIT_MS, 0}
end

local function bucket_level(key, limit, amount)
  local buckets, used, newest = read_buckets(key)
  return {limit, used, wait_ms(buckets, used + amount - limit), newest and leaves_ms(newest) or 0}
end

local function take(member, cells)
  local levels, fits = {}, true
  for i, cell in ipairs(cells) do
    local key, is_slot, limit, amount = KEYS[cell[1]], cell[2], cell[3], cell[4]
    levels[i] = is_slot and slot_level(key, member, limit) or bucket_level(key, limit, amount)
    fits = fits and levels[i][3] == 0
  end
  if not fits then return levels end
  for i, cell in ipairs(cells) do
    local key = KEYS[cell[1]]
    if cell[2] then
      hold_slot(key, member)
      levels[i][2] = redis.call('ZCARD', key)
    else
      add(key, cell[4])
      levels[i][2] = levels[i][2] + cell[4]
      levels[i][4] = math.max(levels[i][4], leaves_ms(this_second))
    end
  end
  return levels
end

local function correct(member, second, cells)
  for _, cell in ipairs(cells) do
    local key, amount = KEYS[cell[1]], cell[4]
    if cell[2] then
      redis.call('ZREM', key, member)
    elseif amount > 0 then
      add(key, amount)
    else
      local taken = tonumber(redis.call('HGET', key, second) or 0)
      if taken > 0 then redis.call('HINCRBY', key, second, math.max(amount, -taken)) end
    end
  end
end

local results = {}
for i, operation in ipairs(cmsgpack.unpack(ARGV[2])) do
  local act, member, second, cells = operation[1], operation[2], operation[3], operation[4]
  results[i] = {}
  if act == TAKE then
    results[i] = take(member, cells)
  elseif act == CORRECT then
    correct(member, second, cells)
  else
    for _, cell in ipairs(cells) do hold_slot(KEYS[cell[1]], member) end
  end
end
return cmsgpack.pack({now, results})
