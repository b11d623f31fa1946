--[[
Who holds a key, to whom it passes, and the calls that add and remove holders. A part of what apply.lua begins.
]]

-- == Holders ==
-- What a batch changes in them is noted, and written once no call can be refused any more.

-- The holders that this batch has read or changed: false if it is none, or none any more. Of each key, the holders that
-- it has added, in order, and the number of those that it has removed.
local holders, added, removed, unreadable
local holder_of, first_that, oldest, size

if clock or changes_holders then
  holders, added, removed, commands = {}, {}, {}, commands or {}

  -- Returns a holder by its name; false if there is none.
  holder_of = function(name)
    if holders[name] == nil then
      local sequence, lease, need, by, key, value =
        match(try('HGET', records, '\0holder:' .. name) or '', '^(%d+) (%S+) (%d+) (%S+) ([^\n]+)\n(.*)$')
      holders[name] = sequence and
        {name = name, sequence = sequence, lease = lease, need = need + 0, node = by, key = key, value = value}
    end
    return holders[name]
  end

  -- Returns the oldest of the first `most` holders of a key that `fits`; nil if there is none.
  first_that = function(key, most, fits)
    local limit = most + (removed[key] or 0)
    local names = try('ZRANGEBYLEX', entries, '[' .. key .. '\0', '(' .. key .. '\0:', 'LIMIT', 0, limit)
    unreadable = unreadable or failure(names, entries)
    for _, entry in ipairs(names) do
      local holder = holder_of(match(entry, '[^%z]*$'))
      if holder and fits(holder) then return holder end
    end
    for _, name in ipairs(added[key] or {}) do
      if holders[name] and fits(holders[name]) then return holders[name] end
    end
  end

  -- Returns the oldest holder of a key; nil if it has none.
  oldest = function(key)
    return first_that(key, 2, function() return true end)
  end

  -- Returns the number of a key's holders.
  size = function(key)
    local stored = try('ZLEXCOUNT', entries, '[' .. key .. '\0', '(' .. key .. '\0:')
    return (type(stored) == 'number' and stored or 0) + #(added[key] or {}) - (removed[key] or 0)
  end
end

-- == Passing ==

local alive, recovering, held_tail, successor

if clock or changes_holders then
  unreadable = failure(clock, records)
  local looked, untl, history = match(not unreadable and clock or '', '^(%d+) %d+ (%d+) %d+ %d+ %w+ %w+ (%w+)$')

  -- Returns whether this is a recovery, or one that no look at the lease clock has noticed yet.
  recovering = function()
    return not looked or looked + 0 < untl + 0 or history ~= actual
  end

  -- Returns whether a lease lives, as of the last look at the lease clock.
  alive = function(lease)
    local score = try('ZSCORE', due, '\0lease:' .. lease)
    return looked and type(score) == 'string' and (looked + 0 < score - LEASES or looked + 0 < untl + 0)
  end

  -- Returns the members of the header of a key that is held; if it was latched before, by a record with this tail. The
  -- token of a lock is the revision at which it is granted.
  held_tail = function(holder, tail, revision)
    local members = ',{"held":"' .. holder.name .. '"'
    if holder.need == 0 then
      members = members .. ',"token":[' .. (holder.token or generation .. ',' .. format(decimal, count + 1)) .. ']'
    end
    if not revision then return members .. '}' end
    local since = match(tail, '"since":%[([%d,]*)%]') or revision
    return members .. ',"since":[' .. since .. ']' .. others_of(tail)
  end

  -- Returns the holder to whom a key passes that would be pending now: of an event the oldest, if enough hold it; of a
  -- lock the oldest that lives, but nobody in a recovery, as the server may have lost a grant.
  successor = function(key)
    local first = oldest(key)
    if not first or size(key) < first.need then return end
    if first.need > 0 then return first end
    return not recovering() and first_that(key, 64, function(holder) return alive(holder.lease) end) or nil
  end

  -- Has its successor take over a key that would be pending now, with these members and this value; returns what
  -- `decide` does.
  take_over = function(key, tail, revision, members, value)
    if find(tail, '"held":"', 1, true) then return '=' end
    local next = successor(key)
    if not next then return nil, members, value end
    return nil, held_tail(next, tail, revision), next.value, FIRE, next.node
  end
end

-- == Changes of holders ==

local change, add, remove

if changes_holders then
  -- Notes a command of a call.
  change = function(i, ...)
    commands[i] = commands[i] or {}
    table.insert(commands[i], {...})
  end

  -- Adds a holder, behind all others of its key.
  add = function(i, holder)
    local key, name = holder.key, holder.name
    local last = try('ZREVRANGEBYLEX', entries, '(' .. key .. '\0:', '[' .. key .. '\0', 'LIMIT', 0, 1)[1]
    last = math.max(now - 1, last and match(last, '%z(%d+)%z') or 0) + #(added[key] or {})
    holder.sequence = format('%016.0f', last + 1)
    holders[name], added[key] = holder, added[key] or {}
    table.insert(added[key], name)
    local place = key .. '\0' .. holder.sequence .. '\0' .. name
    change(i, 'ZADD', entries, 0, place, 0, '\0' .. holder.lease .. '\0' .. name)
  end

  -- Removes a holder.
  remove = function(i, holder)
    local key, name = holder.key, holder.name
    holders[name], removed[key] = false, (removed[key] or 0) + 1
    local under = '\0' .. holder.lease
    change(i, 'ZREM', entries, key .. '\0' .. holder.sequence .. '\0' .. name, under .. '\0' .. name)
    if holder.need == 0 then change(i, 'ZREM', entries, under .. '\1' .. name) end
    change(i, 'HDEL', records, '\0holder:' .. name)
  end
end

-- == Joining ==

local bind, refused

if changes_holders then
  local function write(i, holder)
    local words = {holder.sequence, holder.lease, holder.need, holder.node, holder.key}
    change(i, 'HSET', records, '\0holder:' .. holder.name, table.concat(words, ' ') .. '\n' .. holder.value)
  end

  -- Adds a holder, or puts one that is known under another lease; it has this value from now on. `keeps_asking`: an
  -- owner that was asked to release its lock still is.
  bind = function(i, holder, lease, value, keeps_asking)
    local same = holder.value == value
    holder.value = value
    if not holder.sequence then
      add(i, holder)
    elseif holder.lease ~= lease then
      local under = '\0' .. holder.lease
      local asked = keeps_asking and (holder.asked or try('ZSCORE', entries, under .. '\1' .. holder.name))
      change(i, 'ZREM', entries, under .. '\0' .. holder.name, under .. '\1' .. holder.name)
      change(i, 'ZADD', entries, 0, '\0' .. lease .. (asked and '\1' or '\0') .. holder.name)
      holder.lease = lease
    elseif same then
      return
    end
    write(i, holder)
  end

  -- Returns the refusal of a call; nil if a holder may be added, or is known.
  refused = function(word, key, known, lease, need)
    if not word then return CORRUPT end
    if not alive(lease) then return refusal('OVER the lease ' .. lease .. ' is over') end
    if known then return known.key ~= key and refusal('REUSED this holder has another key') or nil end
    local first = oldest(key)
    if not first or first.need == need then return end
    if first.need == 0 then return LOCKED end
    return refusal(need == 0 and 'KIND it is an event that is held, not a lock' or 'NEED its first holder said need=' ..
      first.need)
  end
end

-- == A new holder ==

local hold, withdraw, evict

if changes_holders then
  -- Whether the owner of a record is a holder of an earlier life of this node.
  local function is_predecessor(tail, name, by)
    local owner = holder_of(match(tail, '"held":"([^"]*)"') or '')
    return owner and owner.node == by and match(owner.name, '^%w+') ~= match(name, '^%w+')
  end

  hold = function(i, _, key, old, data, by)
    local name, lease, need, value = match(data, '^(%S+) (%S+) (%d+)\n(.+)$')
    local word, revision, tail = parsed(old or NONE)
    local wrong = word and no_event(tail)
    if wrong then return wrong end
    local known, over = holder_of(name), word and is_over(key, tail)
    local stays = over and ';' or old and '=' or '-'
    local problem = refused(word, key, known, lease, need + 0)
    if problem then return problem end
    local shows = known and known.value ~= value and not over and match(tail, '"held":"([^"]*)"') == name
    bind(i, known or {name = name, lease = lease, need = need + 0, node = by, key = key}, lease, value)
    if known and not shows then return stays end
    if not over and (word == 'fired' or word == 'failed') then
      -- A node that was started again takes over at once; who owns the record may say something else.
      if not shows and not is_predecessor(tail, name, by) then return '=' end
      return nil, held_tail(holders[name], tail, revision), value, FIRE, holders[name].node
    end
    local next = successor(key)
    if not next then return stays end
    return nil, held_tail(next), next.value, FIRE, next.node
  end
end

-- == A holder less ==

if changes_holders then
  withdraw = function(i, kind, key, old, data)
    local name, only = match(data, '^(%S+) ?(.*)$')
    local mine, word, revision, tail, from = holder_of(name), parsed(old or '')
    local stays = not word and '-' or is_over(key, tail) and ';' or '='
    local owner = word and match(tail, '"held":"([^"]*)"')
    if not mine or mine.key ~= key or kind == LOSE and alive(mine.lease) or only == 'q' and owner == name then
      return stays
    end
    local granted = owner == name and match(tail, '"token":%[([%d,]*)%]')
    if only ~= '' and only ~= 'q' and only ~= granted then return stays end
    remove(i, mine)
    if not owner or mine.need == 0 and owner ~= name then return stays end
    local next = successor(key)
    if not next then
      return nil, pending_tail(word, revision, tail), sub(old, from), kind, kind == LOSE and mine.node or nil
    end
    if owner ~= name then return '=' end
    return nil, held_tail(next, tail, revision), next.value, FIRE, next.node
  end
end

-- == All holders ==

if changes_holders then
  -- Has the node of a lock's owner notice that it has to release it: the lock stays its own until then. Returns whether
  -- there is an owner.
  local function ask_owner(i, old)
    local owner = holder_of(match(old, '"held":"([^"]*)"') or '')
    -- Another program has removed it.
    if not owner then return false end
    owner.asked = true
    change(i, 'ZREM', entries, '\0' .. owner.lease .. '\0' .. owner.name)
    change(i, 'ZADD', entries, 0, '\0' .. owner.lease .. '\1' .. owner.name)
    return true
  end

  evict = function(i, _, key, old)
    if old and find(old, '^[^\n]*"token":%[') and ask_owner(i, old) then return '=' end
    if old and find(old, '^[^\n]*"count":%d') then
      local outcome, members, value = decide(RESET, key, old, '', nil, i)
      return outcome, members, value, RESET
    end
    local names = try('ZRANGEBYLEX', entries, '[' .. key .. '\0', '(' .. key .. '\0:')
    unreadable = unreadable or failure(names, entries)
    for _, entry in ipairs(names) do
      local holder = holder_of(match(entry, '[^%z]*$'))
      if holder then remove(i, holder) end
    end
    local word, revision, tail, from = parsed(old or NONE)
    if not word then return nil, '', '', RESET end
    if word ~= 'fired' and word ~= 'failed' then return old and '=' or '-' end
    return nil, pending_tail(word, revision, tail), sub(old, from), RESET
  end
end
