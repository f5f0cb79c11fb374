# A daemon with pages of its own names them, whatever the guest gave.
case 301
option guest-pages monitor-pages=0x5000,0x6000
G> INITIATE_CONTACT version=6.0 features=SERVER_MONITOR_PAGES
B< ModifyPages own_monitor=1 parent_to_child=0x5000 child_to_parent=0x6000
G< VERSION_RESPONSE supported=1 features=0x40 page1=0x5000 page2=0x6000 @size=40
G> INITIATE_CONTACT version=6.0 features=SERVER_MONITOR_PAGES page1=0x10000 page2=0x20000
G< VERSION_RESPONSE supported=1 features=0x40 page1=0x5000 page2=0x6000 @size=40
G> INITIATE_CONTACT version=6.0 features=0
G< VERSION_RESPONSE supported=1 features=0 @size=20
