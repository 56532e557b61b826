#include "client/tasks/lexicon_words.h"

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace rasq::tasks {
namespace {

constexpr absl::string_view kRelations =
    "access level|account holder|address|advance payment|age|age limit|agenda item|agent|aisle|"
    "alarm code|alias|allergy|alternate|altitude|ambition|ancestor|anniversary|annual fee|"
    "apartment number|apprentice|arrival time|assigned desk|assistant|attendance|auditor|author|"
    "average speed|award|backup site|badge colour|balance|bank|bar code|base price|battery type|"
    "bearing|bedtime|bid|blood group|board member|book title|booking number|booth|border|"
    "bottom line|branch|brand|breed|broker|builder|building|bunk|bus stop|butcher|cable length|"
    "cabin number|calibre|captain|car|card number|cargo|caretaker|case number|caterer|cause|"
    "ceiling height|channel|charge|chart position|check sum|chief engineer|city of birth|class|"
    "classification|client|climate|clinic|coach number|coin|collar size|colleague|collector|"
    "college|command|company|companion|competitor|composer|condition|confessor|connection|"
    "constellation|consultant|contact|container|contents|contract number|co-pilot|cost|counsel|"
    "country|county|coupon|courier|course|cousin|creator|creed|crest|crew size|crop|"
    "cruising speed|currency|current task|curator|customer|daily dose|dance partner|"
    "date of issue|daughter|day off|debt|default setting|defect|degree|delay|density|deputy|"
    "depth|descent|desk number|dessert|device|diagnosis|dialect|diameter|diet|director|discount|"
    "disguise|dish|distance|district|dock|doctor|donor|door code|dosage|draft number|dream|"
    "dress code|driver|due date|duration|duty|editor|elevation|email|emergency contact|employer|"
    "enemy|engine type|entrance|entry fee|error code|escort|estimate|exam result|excuse|exit|"
    "expiry date|explanation|extension|eye colour|fabric|factory|fare|father|fault|"
    "favourite author|favourite book|favourite city|favourite season|favourite song|"
    "favourite toy|fear|fee|field of study|file name|final score|finish|first language|flag|"
    "flat number|flavour|fleet number|floor|foreman|formula|founder|frequency|fuel|gardener|"
    "gate number|gender|genre|gift|goal|godfather|governor|grade|grandmother|group leader|"
    "guardian|guest|guide|hair colour|handle|harvest|hat size|headline|heating|height|heir|"
    "helper|hiding place|highest bid|home address|homework|horsepower|host|hotel|hourly wage|"
    "house number|husband|idol|illness|import duty|income|index|ingredient|initials|inscription|"
    "insurer|intended route|interest rate|interpreter|inventor|invoice number|item number|"
    "job title|judge|junction|key number|landlord|landmark|language|last stop|latitude|"
    "launch date|lawyer|lead singer|length|librarian|licence|life span|limit|line manager|"
    "lodging|logo|longitude|lot number|loyalty|lunch|machine|maiden name|main course|maker|"
    "manager|map square|margin|marital status|mark|mascot|master|match result|material|"
    "maximum load|meal|measure|medal|medicine|meeting point|meeting room|melody|member number|"
    "mentor|message|meter reading|middle name|milestone|mission|model number|moderator|monogram|"
    "mood|mother|motive|motto|native land|nearest town|neighbourhood|nephew|net weight|"
    "next of kin|next stop|night shift|nominee|notice period|nurse|occupation|office hour|"
    "official name|opening hour|operator|opponent|opposite|orbit|order|organiser|origin|outcome|"
    "output|page|parcel number|parish|parking space|partner|passenger|patron|pattern|pay grade|"
    "payment method|peak|penalty|pen name|period|permit number|pharmacy|phase|physician|"
    "pickup point|pilot|pitch|place of work|plan|platform|plot|policy number|population|port|"
    "position|post box|postage|predecessor|preferred seat|pressure|previous owner|printer|"
    "priority|prize|producer|product|profession|project|promise|proverb|province|publisher|pulse|"
    "purchase|purpose|quality|quantity|quarter|queue number|quota|race number|radius|rank|rating|"
    "ration|reader|reason|receipt number|recipe|record|record holder|referee|region|registrar|"
    "relative|religion|remedy|replacement|reporter|representative|reserve|residence|resolution|"
    "result|reward|ringtone|rival|river|role|room mate|root|route|row|royalty|rule|runner-up|"
    "runway|safe combination|salary|sales figure|sample|school subject|screen size|season|seat|"
    "second choice|secret|section|sector|senator|sequence|server|setting|shade|shape|share|"
    "shipment|shirt number|sibling|side dish|sign|signal|signature|sister ship|size|slogan|"
    "software|soil|solution|son|source|speciality|species|speed|sponsor|stage name|standard|"
    "star sign|starting point|state|station|status|stock|storage unit|street|strength|style|"
    "subject|subscription|substitute|successor|supervisor|supplier|surface|surname|symbol|"
    "symptom|table number|talent|target|task|tax|tax number|team|team captain|temperature|tenant|"
    "term|terminal|territory|test result|theme|threshold|time limit|time zone|title|toll|tool|"
    "top speed|topic|total|track|trade|trademark|train number|trainer|translation|transmitter|"
    "treasure|treatment|trustee|tuning|tutor|twin town|uncle|uniform|union|unit price|university|"
    "upper limit|user name|vacancy|variant|variety|vehicle|vendor|venue|version|vessel|"
    "veterinarian|victim|view|vintage|visa number|vocation|voltage|volume|vote|wage|waist size|"
    "walking partner|wall colour|warden|warehouse|warning|warranty|watchword|wavelength|web site|"
    "wedding date|whereabouts|width|wife|will|winner|witness|workplace|workshop|wristband|yield|"
    "zone";
constexpr absl::string_view kNouns =
    "abbey|acorn|almanac|altar|apron|aquarium|arch|archive|armchair|ash tray|atlas|attic|avenue|"
    "axe|backpack|badge|bagpipe|bakery|balcony|balloon|banner|barge|barn|barometer|bathtub|"
    "beacon|bead|beam|beehive|belt|bench|bicycle|billboard|binder|blade|blouse|board|boat|boiler|"
    "bolt|bonnet|bookcase|boot|boulder|bowl|bracket|branch|brass|brick|bridle|brooch|buckle|"
    "buggy|bulb|bundle|bunker|buoy|bus|button|cable|cage|calendar|canal|cane|canvas|cape|carafe|"
    "caravan|card|carriage|cask|cauldron|cave|cello|chain|chair|chalk|chandelier|chart|chimney|"
    "chisel|cinema|circle|clamp|cliff|cloak|cloth|cloud|coach|coast|coat|coffin|collar|column|"
    "compass|cone|copy|cork|corner|corridor|costume|counter|cradle|crane|crate|crater|creek|"
    "cross|crystal|cube|cup|cushion|dam|deck|desk|diary|dice|dish|ditch|dome|door|doorstep|dress|"
    "dresser|dune|earring|easel|elevator|envelope|eraser|estate|fan|farmhouse|faucet|field|file|"
    "filter|fireplace|flag|flask|fleet|floor|flower|folder|fork|fortress|frame|fridge|funnel|"
    "furnace|gallery|garage|garland|gauge|gazebo|gear|glass|glove|goblet|gong|grave|greenhouse|"
    "grill|grove|guitar|gutter|hall|hammock|handle|hangar|harness|harp|hatch|hearth|hedge|hill|"
    "hinge|hook|horn|hose|hotel|house|hub|ink pot|inn|jug|kennel|key|keyboard|kiln|kiosk|kite|"
    "kitchen|knife|knob|lace|lake|lane|laptop|lathe|lawn|ledge|lens|lever|lid|lift|lock|locker|"
    "log|loom|lorry|machine|magnet|mailbox|manor|mantle|manual|map|marble|marina|mask|mast|mat|"
    "mattress|medal|menu|mill wheel|mine|mitten|moat|monument|mop|mosaic|motor|mug|nail|napkin|"
    "necklace|nest|net|nozzle|oar|obelisk|orb|ornament|outpost|package|pad|padlock|pagoda|pan|"
    "panel|parachute|parasol|park|parlour|passage|path|pavilion|peak|pedal|pendant|pendulum|pen|"
    "pergola|phone|pier|pillar|pin|pistol|pit|plank|planter|plate|platform|plough|plug|pocket|"
    "pole|poncho|pool|porch|portal|portrait|post|poster|pot|pouch|press|prism|propeller|pulley|"
    "pump|puppet|purse|puzzle|pyramid|quilt|rack|raft|railing|rake|ramp|razor|record|reef|relic|"
    "reservoir|ribbon|ridge|rifle|robe|rod|roof|room|rope|rotor|rudder|rug|ruler|safe|sandal|"
    "sauce pan|saw|scale|school|scooter|scroll|sculpture|seat|sewing box|shaft|shelf|shell|shoe|"
    "shop|shovel|shrine|sieve|sign|silo|sink|skate|ski|skirt|sled|sleeve|slipper|sloop|"
    "smokestack|snowman|socket|sofa bed|spade|spear|sphere|spindle|spire|sponge|spool|spoon|"
    "spring|square|stable|stack|stage|stair|stamp|stand|steeple|stool|store|strap|stream|street|"
    "string|studio|submarine|summit|sundial|swing|switch|syringe|tank|tap|tapestry|tavern|teapot|"
    "terrace|theatre|thermometer|thimble|throne|tile|toolbox|torch|towel|toy|track|tractor|trail|"
    "tram|trap|tray|tree|tripod|trolley|trophy|trousers|truck|trumpet|tube|turbine|turret|tyre|"
    "urn|valve|van|vat|vault|veil|vest|viaduct|villa|wall|wardrobe|watch|waterfall|watermill|"
    "weather vane|well|wharf|wheelbarrow|whip|wig|windmill|wing|wire|workbench|wreath|wrench|"
    "yacht|yard|zip";
constexpr absl::string_view kAdjectives =
    "able|agile|airy|alpine|angular|arctic|ashen|austere|bald|bashful|bent|blank|blunt|bold|bony|"
    "bright|broad|bumpy|carved|chilly|civic|classic|clumsy|coarse|compact|complex|concave|convex|"
    "cosy|courteous|creamy|crisp|cubic|curly|damp|dapper|deep|delicate|dense|dim|dual|dull|"
    "earnest|elastic|elegant|enormous|exotic|faint|feeble|fiery|final|firm|flat|fluffy|formal|"
    "frank|frosty|fuzzy|generous|glad|graceful|granite|greasy|green|gritty|half|hardy|harsh|"
    "hasty|hazy|honest|idle|inner|joint|keen|lavish|lean|legal|level|light|limp|linen|lofty|"
    "loose|lost|low|loyal|lunar|magnetic|main|major|massive|mature|mighty|mild|minor|mobile|"
    "modern|modest|moist|molten|mute|naval|neat|nervous|neutral|new|noble|obscure|oily|open|oval|"
    "patchy|petite|polar|porous|portable|prickly|prime|private|prompt|public|pure|quaint|radiant|"
    "rare|raw|regal|remote|rich|rigid|ripe|robust|rocky|rural|sacred|salty|scarce|second|"
    "seamless|secure|severe|shabby|shallow|sharp|sheer|short|shy|skinny|sleek|slender|slim|sly|"
    "smoky|snug|sober|soft|solar|solid|spare|spicy|spiral|square|stable|stale|stark|steep|stern|"
    "stiff|stony|stout|sturdy|subtle|supple|tall|tame|tart|tense|thick|thin|third|thorny|tidal|"
    "tight|timid|tough|trim|tropical|urban|vacant|vague|vast|verdant|vintage|vocal|waxy|weak|wet|"
    "whole|wicked|wide|wiry|woolly|worn|young";
constexpr absl::string_view kNames =
    "Abernathy|Aldous|Alcott|Anselm|Arden|Aubrey|Bainbridge|Balthazar|Barnaby|Bartram|Bellamy|"
    "Benedict|Berenice|Bertram|Birgit|Blanche|Boswell|Brannigan|Calder|Callista|Cassius|Cedric|"
    "Celestine|Chaucer|Clarissa|Clement|Cordelia|Cornelius|Cyril|Dashiell|Delphine|Desmond|"
    "Dietrich|Dorothea|Drusilla|Edmund|Eleanor|Elspeth|Emeric|Enoch|Ernestine|Eudora|Everett|"
    "Fabian|Felicity|Ferdinand|Fitzroy|Flavia|Frederick|Garrick|Genevieve|Gertrude|Gilbert|"
    "Godfrey|Gwendolen|Hadrian|Harriet|Hector|Heloise|Hermia|Hildegard|Horatio|Hubert|Ignatius|"
    "Imogen|Isidore|Isolde|Jasper|Jerome|Josephine|Julian|Juliet|Justus|Katrin|Kerensa|Lambert|"
    "Lancelot|Laurence|Leander|Leopold|Linus|Lorenzo|Lucretia|Ludovic|Magnus|Malcolm|Marcella|"
    "Marius|Matilda|Maximilian|Mercy|Millicent|Montague|Mortimer|Nathaniel|Nerissa|Octavia|"
    "Odette|Ophelia|Orlando|Osbert|Otto|Penelope|Percival|Philippa|Phineas|Prudence|Quentin|"
    "Randolph|Regina|Reynold|Roderick|Rosalind|Rowena|Sabine|Sebastian|Seraphina|Septimus|"
    "Sidonie|Simeon|Stella|Sybil|Tabitha|Thaddeus|Theodora|Theobald|Tristan|Ulrica|Ursula|"
    "Valerian|Verity|Viola|Vivian|Waldo|Wilhelmina|Wolfram|Yvette|Zachary|Zelda|Aldercott|"
    "Ambleforth|Barrowmere|Birchwick|Calderon|Castellan|Corvane|Dunmarrow|Eastmoor|Fernhollow|"
    "Galloway|Greystoke|Hallamere|Inverdale|Kestrelby|Langmoor|Marrowdale|Netherby|Oakhampton|"
    "Pelham|Quarrington|Ravensworth|Saltmarsh|Tarrant|Underhill|Valcourt|Wexcombe|Yarrow";
constexpr absl::string_view kVerbs =
    "adjust|appoint|attack|attend|avoid|award|block|board|boil|borrow|check|clean|collect|comb|"
    "conceal|consult|cover|crack|crush|defend|deliver|design|detain|dissect|drain|draft|discover|"
    "employ|escort|expand|explain|export|film|filter|fix|flatten|flood|fold|follow|gather|greet|"
    "guard|guess|haunt|heat|help|hoist|hunt|import|inherit|inspect|install|invent|insult|"
    "interview|iron|join|kick|lengthen|lift|load|lock|market|mend|mention|melt|moor|mount|obey|"
    "obtain|offend|offer|open|order|paint|pardon|park|pawn|photograph|pick|plant|plaster|play|"
    "plunder|polish|pour|present|press|print|publish|pull|punish|question|recall|record|reform|"
    "reject|remember|repair|replant|report|request|return|reward|roast|sail|scratch|search|seal|"
    "select|sharpen|sketch|soften|spill|stamp|stitch|stretch|suspect|test|thank|toast|touch|"
    "train|transport|treat|unload|unlock|unpack|varnish|visit|wash|watch|water|weigh|wreck";

absl::string_view ListOf(WordClass word_class) {
  switch (word_class) {
    case WordClass::kNoun:
      return kNouns;
    case WordClass::kAdjective:
      return kAdjectives;
    case WordClass::kName:
      return kNames;
    case WordClass::kRelation:
      return kRelations;
    case WordClass::kVerb:
      return kVerbs;
  }
  return "";
}

}  // namespace

std::vector<std::string> BuiltInWords(WordClass word_class) {
  return absl::StrSplit(ListOf(word_class), '|');
}

}  // namespace rasq::tasks
