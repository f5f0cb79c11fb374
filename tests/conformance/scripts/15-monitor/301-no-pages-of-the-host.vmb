# One without never grants the feature.
case 301
option guest-pages
G> INITIATE_CONTACT version=6.0 features=SERVER_MONITOR_PAGES page1=0x10000 page2=0x20000
G< VERSION_RESPONSE supported=1 features=0 @size=20
