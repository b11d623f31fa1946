--[[
The call that counts. A part of what apply.lua begins, behind apply_holders.lua.
]]

-- == Counters ==
-- All counts of one key in a batch, with nothing else for that key between them, are one change. So a million counts do
-- not push the lines of other keys out of the history.

-- The counters that this batch has changed, by key; and the one that the present call counts on.
local counters, counter
local counter_of, tail_of

if counts then
  counters, commands = {}, commands or {}

  -- Returns a counter that begins where a record stood.
  local function begin(word, revision, tail, value)
    local members = others_of(tail)
    -- Keep the last wake, for waiters that were disconnected, as a reset does.
    if word == 'pulsed' or word == 'fired' or word == 'failed' then
      members = ',"wake":["' .. word .. '",' .. revision .. ']' .. members
    end
    return {kind = COUNT, count = 0, goal = 0, members = members, value = value, begins = true}
  end

  -- Returns the counter of a key; nil and the refusal if the key has something else.
  counter_of = function(key, old)
    if counters[key] and counters[key].record == old then return counters[key] end
    local word, revision, tail, from = parsed(old or NONE)
    if not word then return nil, CORRUPT end
    local latched, total = word == 'fired' or word == 'failed', match(tail, '"count":(%d+)')
    if total then
      local since = match(tail, '"since":(%b[])') or '[' .. revision .. ']'
      return {kind = latched and FIRE or COUNT, count = total + 0, goal = (match(tail, '"goal":(%d+)') or 0) + 0,
        members = others_of(tail), value = sub(old, from), since = latched and since}
    end
    if no_event(tail) == LOCKED then return nil, LOCKED end
    if size and size(key) > 0 then return nil, refusal('KIND it is an event that is held, not a counter') end
    if latched and not is_over(key, tail) then
      return nil, refusal('KIND it is an event that is ' .. word .. ', not a counter; reset ends it')
    end
    return begin(word, revision, tail, old and sub(old, from) or '')
  end

  -- Returns the further members of its record.
  tail_of = function(of)
    local tail = format(',{"count":%.0f', of.count)
    if of.goal > 0 then tail = tail .. format(',"goal":%.0f', of.goal) end
    if of.since then tail = tail .. ',"since":' .. of.since end
    return tail .. of.members
  end
end

-- == Names that count once ==

-- The members of `entries` that this batch adds, and the keys whose earlier ones it removes.
local joined, cleared
local clear, has_counted, names_refused

if counts then
  joined, cleared = {}, {}

  clear = function(i, key)
    local start = key .. '\0who\0'
    cleared[key] = true
    forget_names(i, key)
    for member in pairs(joined) do
      if sub(member, 1, #start) == start then joined[member] = nil end
    end
  end

  has_counted = function(key, member)
    return joined[member] or not cleared[key] and type(try('ZSCORE', entries, member)) == 'string'
  end

  -- Returns why names could not be written, or removed: that is done last, when nothing can be refused any more.
  names_refused = function()
    return next(joined) and failure(try('ZADD', entries, 0, ''), entries)
      or next(cleared) and failure(try('ZREMRANGEBYLEX', entries, '(', '(\1'), entries)
  end
end

-- == The record of a counter ==

local replace, note_counter, as_left

if counts then
  -- Puts the record of a counter that this batch has changed before in the place of the earlier one.
  replace = function(key)
    local record = '["' .. KINDS[counter.kind] .. record_start .. counter.number .. record_end .. tail_of(counter)
      .. ']\n' .. counter.value
    made[counter.call], current[key], written[counter.place], counter.record = record, record, record, record
    if entry then
      local omits = #counter.value > largest
      entry[counter.place - (after and 2 or 4)] = omits and sub(record, 1, -2 - #counter.value) or record
    end
  end

  -- Notes that the counter has a record of its own in this batch, and returns the outcome.
  note_counter = function(i, key, old)
    if counter.begins and old then note_due(FIRE, key) end
    shown = shown or {}
    counters[key], shown[i] = counter, counter
    counter.call, counter.place, counter.number, counter.record, counter.begins = i, w, text, made[i], false
    return format('%.0f*', counter.count)
  end

  -- Returns what to show for the record of a key: its counter, if further counts of this batch may change it.
  as_left = function(key, record)
    local of = counters[key]
    return of and of.record == record and of or record
  end
end

-- == A count ==

local count_up

if counts then
  -- Adds to the counter, and fires it at its goal.
  local function add_to(i, key, n, goal, member)
    if counter.begins then clear(i, key) end
    if member then
      joined[member], commands[i] = true, commands[i] or {}
      table.insert(commands[i], {'ZADD', entries, 0, member})
    end
    counter.count, counter.goal = counter.count + n, counter.goal > 0 and counter.goal or goal
    if counter.kind == FIRE or counter.goal > 0 and counter.count >= counter.goal then
      counter.kind, counter.members = FIRE, gsub(counter.members, ',"wake":%b[]', '')
      counter.value = format('%.0f', counter.count)
    end
  end

  count_up = function(i, _, key, old, data)
    local n, goal, who = match(data, '^(%d+),(%d+),(.*)$')
    local wrong
    counter, wrong = counter_of(key, old)
    if wrong then return wrong end
    if #who > 512 or find(who, '\194[\128-\159]') then return refusal('ERR this is no name') end
    goal = goal + 0
    if goal > 0 and counter.goal > 0 and goal ~= counter.goal then
      return refusal(format('GOAL its goal is %.0f, not %.0f; nothing was counted', counter.goal, goal))
    end
    local member = who ~= '' and key .. '\0who\0' .. who
    if member and not counter.begins and has_counted(key, member) then
      shown = shown or {}
      shown[i] = counter.call and counter or old
      return format('%.0f=', counter.count)
    end
    if math.max(counter.count + n, goal) > HIGHEST then return refusal('ERR a counter ends at 2^53 - 1') end
    add_to(i, key, n, goal, member)
    if not counter.call then return nil, tail_of(counter), counter.value, counter.kind end
    replace(key)
    return format('%.0f&', counter.count)
  end
end
