# A device that was asked and opens: the guest hears of it. One that was never asked, because the daemon died
# before the guest's message was written down, is asked when the guest sends that again.
case 202
version 5.3
offer
gpadl relid=1
save
G> OPEN_CHANNEL relid=1 open_id=9
H< open relid=1 open_id=9
restore
= channel 1 closed
silence
G> OPEN_CHANNEL relid=1 open_id=9
H< open relid=1 open_id=9
save
restore
= channel 1 opening
silence
H> open done(0)
G< OPEN_RESULT relid=1 open_id=9 status=OK
= channel 1 open generation=1
