--[[
Decides on each call of the batch, and writes what is decided. The end of what apply.lua begins.
]]

-- == Special calls ==

-- What decides on them, and the shape of their data.
local others = (changes_holders or counts) and
  {[HOLD] = hold, [WITHDRAW] = withdraw, [LOSE] = withdraw, [EVICT] = evict, [COUNT] = count_up,
  [LOCK] = lock}
local shapes = special and {
  [RESET] = '^%d+,%d+$', [END] = '^%d+,%d+$', [TIMED] = '^[1-9]%d*\n.', [MOVE] = '^[1-9]%d*$',
  [HOLD] = '^%w+%.%d+ %w+%.%d+ [1-9]%d*\n.', [WITHDRAW] = '^%w+%.%d+ ?[q%d,]*$', [LOSE] = '^%w+%.%d+$',
  [EVICT] = '^%-$', [COUNT] = '^[1-9]%d*,%d+,%C*$', [LOCK] = '^%w+%.%d+ %w+%.%d+ %d+,%d+\n.',
}

-- == Calls ==

local names = nodes and string.gmatch(nodes, '[^,]+')
for i = 1, calls do
  local kind, key, value, outcome, tail, ttl = kinds[i], ARGV[i + 2], ARGV[i + 2 + calls], nil, '', nil
  if key == '' or value == '' and kind ~= RESET or special and value ~= '' and not find(value, shapes[kind] or '') then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
  if special and (kind == TIMED or kind == MOVE) then ttl, value = match(value, '^(%d+)\n?(.*)$') end
  local old, caller, as, by = current[key] or found[i + 3], names and names(), nil, nil
  record_end = caller and '],' .. now .. ',"' .. caller .. '"' or record_end
  if others and others[kind] then
    outcome, tail, value, as, by = others[kind](i, kind, key, old, value, caller or node)
  elseif old then
    outcome, tail, value, as, by = decide(kind, key, old, value, ttl, i)
  elseif special and (kind == RESET or kind == MOVE or kind == END) then
    outcome = '-'
  end
  local record = old
  if not outcome then
    count = count + 1
    text = format(decimal, count)
    local middle = record_end
    if special or as then
      -- An end is told under the name of the node whose event it is.
      by = by or kind == END and match(old, ',"([^"]*)"')
      middle = by and '],' .. now .. ',"' .. by .. '"' or record_end
      tail = ttl and ',{"ttl":' .. ttl .. '}' or tail
    end
    record = '["' .. KINDS[as or kind] .. record_start .. text .. middle .. tail .. ']\n' .. value
    made[i], current[key] = record, record
    written[w + 1], written[w + 2] = key, record
    if entry or #value > largest then
      entry = entry or {unpack(written, 5, w)}
      entry[#entry + 1], entry[#entry + 2] = key, #value > largest and sub(record, 1, -2 - #value) or record
    end
    w = w + 2
    if (old or kind ~= FIRE) and kind ~= COUNT then note_due(as or kind, key, ttl) end
    outcome = special and (kind == COUNT and note_counter(i, key, old) or (kind == RESET or kind == END or ttl) and '*')
      or (named or as) and '*' or '+'
  end
  if outcome ~= '+' and outcome ~= '-' and kind ~= COUNT and byte(outcome) ~= 33 then
    shown = shown or {}
    shown[i] = counters and as_left(key, record) or record
  end
  outcomes[i] = outcome
end

-- == Outcomes ==
-- They are remembered without values.

if unreadable then return redis.error_reply(unreadable) end

local remembered
if shown then
  remembered = {unpack(outcomes)}
  for i, record in pairs(shown) do
    -- A counter, as the last of these calls leaves it.
    if type(record) == 'table' then record = record.record end
    local header = match(record, '^[^\n]*')
    remembered[i] = outcomes[i] .. #header .. ':' .. header
    outcomes[i] = outcomes[i] .. #record .. ':' .. record
  end
end
local answer = generation .. ' ' .. spent .. ' ' .. now .. '\n'
local body = calls == 1 and outcomes[1] or table.concat(outcomes)
if named and byte(body) == 33 then
  -- A refusal is not remembered under a name, so that the call can be repeated once its cause is gone.
  return answer .. body
end

-- == Writing ==
-- An error in any part (permissions, memory, a read-only server, a wrong type) refuses the whole batch. The doorbell's
-- watchers cannot read before this script has ended.

-- The end of the head, after its revision, and its beginning.
local head_end = ' ' .. process .. ' ' .. data .. ' ' .. follows
local head_start = LAYOUT .. ' ' .. generation .. ' '
local changed = count > first
written[2] = called .. '\n' .. answer .. (remembered and table.concat(remembered) or body)
if changed then written[4] = head_start .. text .. head_end else written = {CALL, written[2]} end
if not last or last == NOTHING then
  pending = pending or {}
  pending[#pending + 1] = format('%.0f', milliseconds + life)
  pending[#pending + 1] = CALL
end
if registers then
  pending = pending or {}
  pending[#pending + 1], pending[#pending + 2] = 'inf', ''
  soonest = math.min(soonest or math.huge, milliseconds + math.min(retention, life))
end

local id = generation .. '-' .. text
local err = failure(try(publish, doorbell, 'x'), doorbell) or failure(try('HSET', records, unpack(written)), records)
if not err then
  -- While the slot moves, a server puts off a script of which any key is missing.
  err = clustered and registers
    and (failure(try('ZADD', entries, 0, ''), entries) or failure(try('ZADD', idle, 'inf', ''), idle))
  err = err or counters and names_refused() or pending and failure(try('ZADD', due, unpack(pending)), due)
    or soonest and failure(try('ZADD', idle, 'LT', format('%.0f', soonest),
      -- The name of the map.
      (gsub(match(records, '/(.*)') or records, '}', ''))), idle)
    or changed and failure(try('XADD', log, id, unpack(entry or written, entry and 1 or 5)), log)
  if err then
    -- The numbers are used up: if another program has written higher ids to the stream, the next batch gets past them.
    local used = text ~= newest and ' ' .. text or ''
    restore(HEAD, not begins and head_start .. newest .. head_end .. used or head)
    restore(CALL, not named and (last or NOTHING))
    for i = 1, calls do restore(ARGV[i + 2], found[i + 3], was and was[ARGV[i + 2]]) end
  end
end
if err then return redis.error_reply(err) end

-- == Messages ==
-- If publishing is forbidden, the call gets the error, and its key is restored.

local refused
local prefix = doorbell .. ':'
for i = 1, calls do
  local record, key = made[i], ARGV[i + 2]
  local reason = refused and refused[key]
  if record and not reason then
    local channel = prefix .. key
    local reply = try(publish, channel, record)
    if type(reply) == 'table' then
      reason = failure(reply, channel)
      restore(key, found[i + 3], was and was[key])
      if ended then ended[key] = nil end
      refused = refused or {}
      refused[key] = reason
    end
  end
  if reason then
    outcomes[i] = (record and '~!' or '!') .. #reason .. ':' .. reason
    if remembered then remembered[i] = outcomes[i] end
  end
end

-- == Refusals ==
-- Write the entry again, without the refused calls, under a new number: the stream takes no number twice.

if refused then
  entry = entry or {unpack(written, 5, w)}
  -- The line that it begins with may be left out, so it names the one that it follows.
  local remaining, published = {'', after or generation .. ' ' .. newest}, nil
  local line_number, at = first, after and 2 or 0
  for i = 1, calls do
    if made[i] then
      line_number, at = line_number + 1, at + 2
      if not refused[entry[at - 1]] then
        remaining[#remaining + 1], remaining[#remaining + 2] = entry[at - 1], entry[at]
        published = format('%.0f', line_number)
      end
    end
  end
  if not failure(try('XDEL', log, id), log) and published then
    count = count + 1
    text = format('%.0f', count)
    try('XADD', log, generation .. '-' .. text, unpack(remaining))
  end
  -- A generation begins with a line, as its first line says which revision it follows.
  local used = text ~= (published or newest) and ' ' .. text or ''
  restore(HEAD, (published or not begins) and head_start .. (published or newest) .. head_end .. used or head)
  body = table.concat(outcomes)
  restore(CALL, not named and called .. '\n' .. answer .. (remembered and table.concat(remembered) or body))
end

-- == Cleanup ==
-- Now and then, and whenever something was added to the due set.

for i = 1, commands and calls or 0 do
  for _, change in ipairs(find(outcomes[i], '^~?!') and {} or commands[i] or {}) do try(unpack(change)) end
end
if ended then
  -- Latched records must not be forgotten.
  local latched = {}
  for key in pairs(ended) do latched[#latched + 1] = key end
  if #latched > 0 then try('ZREM', due, unpack(latched)) end
end
if pending or count % 16 < count - first then
  -- Trim the history in steps. Numbers continue through the generations, so the oldest entry shows the excess.
  local step = 16 * math.max(1, math.floor(lines / 256))
  for _ = 1, count % step < count - first and 8 or 0 do
    local oldest = try('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local g, n = match(oldest and oldest[1] or '', '^(%d+)%-(%d+)$')
    if not n or n + 0 > count - lines then break end
    try('XTRIM', log, 'MINID', g .. '-' .. format('%.0f', count - lines + 1))
  end
  -- More than were added, so that a backlog shrinks.
  forget(milliseconds, life, calls + 3)
end
return answer .. body
