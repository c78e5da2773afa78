-- Compare and set entries of one hash, each for itself, and read it whole: what is known of failures, for all processes.
--
-- KEYS[1]  the hash, and the channel that is told of changes
-- ARGV     who writes; how long all of it lives after a change, in s; "1" to tell the others;
--          then for each entry: its name, its value as it was read, its value to be; an empty value is none
-- returns  the server's time (s, us), then names and values of all entries

local changed = false
for i = 4, #ARGV, 3 do
  local name, was, to_be = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if (redis.call('HGET', KEYS[1], name) or '') == was then
    if to_be == '' then
      redis.call('HDEL', KEYS[1], name)
    else
      redis.call('HSET', KEYS[1], name, to_be)
    end
    changed = true
  end
end
if changed then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  if ARGV[3] == '1' then redis.call('PUBLISH', KEYS[1], ARGV[1]) end
end
local reply = redis.call('TIME')
for _, text in ipairs(redis.call('HGETALL', KEYS[1])) do reply[#reply + 1] = text end
return reply
