# A bit is armed while the channel is open with interrupts, and only then.
case 302 064
option guest-pages
offer instance=1 offer_flags=MONITORED
G> INITIATE_CONTACT version=5.3 page1=0x10000 page2=0x20000
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 monitor=0
G< ALL_OFFERS_DELIVERED
gpadl
G> OPEN_CHANNEL relid=1 vp=1
B< ArmMonitor monitor_id=0 flag=1
H< open relid=1
H> done
G< OPEN_RESULT status=OK
G> CLOSE_CHANNEL relid=1
B< DisarmMonitor monitor_id=0
H< close
H> done
G> OPEN_CHANNEL relid=1 vp=NONE
H< open relid=1
H> done
G< OPEN_RESULT status=OK
G> CLOSE_CHANNEL relid=1
H< close
H> done
G> OPEN_RESERVED relid=1 vp=0 sint=3
H< open relid=1
H> done
G< OPEN_RESULT status=OK
