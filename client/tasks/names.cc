#include "client/tasks/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace rasq::tasks {
namespace {

const Words kFirstNames = {
    // English, Irish, Scottish, Welsh
    "Mary", "John", "Alice", "Bob", "Carol", "George", "Helen", "Julia", "Wendy", "Xavier", "Emma",
    "Oliver", "Jack", "Harry", "Grace", "Ruby", "Lucy", "Edward", "Arthur", "Daisy", "Poppy",
    "Henry", "Stanley", "Florence", "Rupert", "Hazel", "Ivy", "Violet", "Winifred", "Walter",
    "Ralph", "Clive", "Nigel", "Brenda", "Doreen", "Maureen", "Ronan", "Siobhan", "Niamh", "Declan",
    "Aoife", "Ciaran", "Fergus", "Angus", "Morag", "Callum", "Isla", "Rhys", "Megan", "Gareth",
    "Bronwen", "Dylan",
    // North American
    "Tyler", "Madison", "Logan", "Brandon", "Kayla", "Jordan", "Hunter", "Savannah", "Wyatt",
    "Austin", "Cheyenne", "Trevor", "Tiffany", "Darnell", "Latoya", "Jamal", "Keisha", "Tyrone",
    "Shanice",
    // Spanish, Portuguese
    "Carlos", "Lucia", "Ines", "Pedro", "Rosa", "Ximena", "Diego", "Sofia", "Mateo", "Valentina",
    "Javier", "Carmen", "Pablo", "Elena", "Rafael", "Pilar", "Alejandro", "Marisol", "Esteban",
    "Consuelo", "Joaquin", "Beatriz", "Thiago", "Joana", "Paulo", "Leticia", "Duarte", "Catarina",
    "Vasco", "Graciela",
    // French
    "Camille", "Luc", "Margaux", "Etienne", "Colette", "Olivier", "Manon", "Pascal", "Sylvie",
    "Thierry", "Bastien", "Odile", "Remy", "Solange", "Yves", "Delphine",
    // Italian
    "Marco", "Bella", "Giulia", "Lorenzo", "Chiara", "Matteo", "Francesca", "Paolo", "Alessia",
    "Enzo", "Ornella", "Silvio", "Fiorella", "Davide", "Raffaella", "Carmelo",
    // German, Dutch, Nordic
    "Karl", "Lena", "Freya", "Gustav", "Jonas", "Elias", "Lars", "Sven", "Ulf", "Wim", "Greta",
    "Heinrich", "Anke", "Dieter", "Ursula", "Jurgen", "Liesel", "Klaus", "Maren", "Pieter", "Joost",
    "Saskia", "Marijke", "Bram", "Femke", "Astrid", "Bjorn", "Ingrid", "Magnus", "Solveig",
    "Torsten", "Signe", "Leif", "Ragnhild", "Eero", "Aino", "Mikko", "Kaisa", "Pekka", "Sigrun",
    "Gudrun",
    // Slavic, Baltic
    "Ivan", "Igor", "Olga", "Vera", "Boris", "Natasha", "Dmitri", "Svetlana", "Yuri", "Ludmila",
    "Oksana", "Taras", "Bohdan", "Halina", "Kasia", "Wojciech", "Agnieszka", "Zbigniew", "Jadwiga",
    "Vaclav", "Zdenka", "Milos", "Dragana", "Goran", "Jelena", "Zoran", "Ljiljana", "Stoyan",
    "Radka", "Janis", "Ilze", "Vytas", "Rasa",
    // Greek, Romanian, Hungarian, Albanian
    "Yannis", "Eleni", "Kostas", "Despina", "Stavros", "Ioana", "Radu", "Mihai", "Zsofia", "Laszlo",
    "Ildiko", "Ferenc", "Arben", "Lirije",
    // Arabic, Hebrew, Persian, Turkish, Kurdish
    "Omar", "Fatima", "Samir", "Amir", "Yusuf", "Layla", "Hassan", "Noor", "Khalid", "Zaynab",
    "Tariq", "Salma", "Rashid", "Amina", "Ibrahim", "Hanan", "Avi", "Tamar", "Eitan", "Shira",
    "Noam", "Yael", "Dariush", "Shirin", "Cyrus", "Parisa", "Mehmet", "Ayse", "Emre", "Zeynep",
    "Kemal", "Leyla", "Rojin", "Azad",
    // South Asian
    "Priya", "Tara", "Arjun", "Ananya", "Rohan", "Lakshmi", "Vikram", "Deepa", "Sanjay", "Meera",
    "Kiran", "Anil", "Kavita", "Rajesh", "Sunita", "Imran", "Ayesha", "Bilal", "Nasreen", "Farhan",
    "Tharindu", "Dilini", "Suresh", "Padma", "Gurpreet", "Harjit",
    // East Asian
    "Chen", "Hana", "Wei", "Ming", "Xiu", "Jun", "Lan", "Hiroshi", "Yuki", "Kenji", "Sakura",
    "Takeshi", "Naoko", "Haruto", "Aiko", "Minjun", "Soyeon", "Jiho", "Eunji", "Sunhee", "Batbayar",
    "Oyuna",
    // South-East Asian, Pacific
    "Linh", "Minh", "Thuy", "Quang", "Somchai", "Malee", "Niran", "Putri", "Budi", "Dewi", "Wayan",
    "Siti", "Rizal", "Amihan", "Jomar", "Luz", "Tane", "Aroha", "Moana", "Sione", "Leilani",
    "Keoni",
    // African
    "Kofi", "Zuri", "Amara", "Chidi", "Ngozi", "Emeka", "Adaeze", "Tunde", "Folake", "Kwame",
    "Abena", "Yaw", "Esi", "Thabo", "Lerato", "Sipho", "Nomvula", "Tendai", "Rutendo", "Juma",
    "Wanjiru", "Otieno", "Achieng", "Tesfaye", "Selam", "Dawit", "Makeda", "Ousmane", "Aissatou",
    "Mamadou", "Fanta", "Nia", "Jabari",
    // elsewhere and older
    "Nina", "Victor", "Nora", "Oscar", "Paula", "Quinn", "Rita", "Umar", "Yara", "Zoe", "Dora",
    "Mina", "Noel", "Tess", "Vida", "Zara", "Anahit", "Tigran", "Nino", "Giorgi", "Aigul", "Timur",
    "Nayeli", "Citlali", "Inti", "Killa", "Aputsiaq", "Nivi", "Cosmo", "Lucan", "Portia", "Silas",
    "Ezra", "Naomi", "Judith", "Tobias", "Esther", "Gideon", "Miriam", "Jonah"};

const Words kSurnames = {"Okafor",  "Lindqvist", "Tanaka",    "Moreau",   "Petrov",   "Castillo",
                         "Novak",   "Rossi",     "Haddad",    "Kowalski", "Nguyen",   "Sharma",
                         "Fischer", "OBrien",    "Mbeki",     "Svensson", "Yilmaz",   "Costa",
                         "Dubois",  "Ferrari",   "Ivanova",   "Jensen",   "Kaplan",   "Larsen",
                         "Mendoza", "Nakamura",  "Oyelaran",  "Pereira",  "Quintero", "Rahman",
                         "Schulz",  "Takahashi", "Usman",     "Vargas",   "Weber",    "Xu",
                         "Yamada",  "Zhang",     "Abebe",     "Bianchi",  "Chopra",   "Demir",
                         "Eriksen", "Fontaine",  "Gonzalez",  "Horvath",  "Iyer",     "Jansen",
                         "Khumalo", "Leclerc",   "Marino",    "Nkosi",    "Olsen",    "Popescu",
                         "Qureshi", "Rojas",     "Sato",      "Toth",     "Ueda",     "Vidal",
                         "Wagner",  "Yilma",     "Zielinski", "Adeyemi",  "Baker",    "Carter",
                         "Dawson",  "Ellis",     "Fletcher",  "Graham",   "Hughes",   "Irwin"};
const Words kSurnameBegins = {"Ash",   "Black", "Brad", "Car",  "Clay", "Crom", "Dal",  "Elm",
                              "Fair",  "Glen",  "Gold", "Hart", "Hol",  "Kel",  "Lang", "Mar",
                              "Nor",   "Oak",   "Pen",  "Rad",  "Red",  "Rock", "Sel",  "Stan",
                              "Thorn", "Wake",  "West", "Whit", "Wil",  "Win",  "Wood", "York"};
const Words kSurnameEnds = {"bourne", "bridge", "bury",  "by",     "combe", "cott",  "croft",
                            "dale",   "den",    "field", "ford",   "gate",  "ham",   "hurst",
                            "ley",    "low",    "man",   "mere",   "more",  "ridge", "son",
                            "stead",  "stone",  "ston",  "thorpe", "ton",   "wald",  "ward",
                            "well",   "wick",   "wood",  "worth"};

const Words kCities = {
    "Paris",     "London",     "Berlin",     "Madrid",     "Rome",      "Oslo",      "Vienna",
    "Prague",    "Dublin",     "Lisbon",     "Athens",     "Warsaw",    "Budapest",  "Helsinki",
    "Stockholm", "Cairo",      "Nairobi",    "Lagos",      "Tokyo",     "Seoul",     "Delhi",
    "Mumbai",    "Sydney",     "Lima",       "Bogota",     "Toronto",   "Boston",    "Chicago",
    "Denver",    "Austin",     "Seattle",    "Miami",      "Dallas",    "Houston",   "Atlanta",
    "Portland",  "Accra",      "Algiers",    "Amman",      "Ankara",    "Antwerp",   "Auckland",
    "Baghdad",   "Baku",       "Bangkok",    "Barcelona",  "Basel",     "Beirut",    "Belfast",
    "Belgrade",  "Bergen",     "Bern",       "Bilbao",     "Bologna",   "Bordeaux",  "Brasilia",
    "Bremen",    "Brisbane",   "Bristol",    "Brussels",   "Bucharest", "Calgary",   "Cardiff",
    "Caracas",   "Casablanca", "Cologne",    "Copenhagen", "Cordoba",   "Dakar",     "Damascus",
    "Darwin",    "Dresden",    "Durban",     "Edinburgh",  "Florence",  "Fukuoka",   "Gdansk",
    "Geneva",    "Genoa",      "Ghent",      "Glasgow",    "Granada",   "Graz",      "Hamburg",
    "Hanoi",     "Harare",     "Havana",     "Hobart",     "Istanbul",  "Jakarta",   "Kampala",
    "Karachi",   "Kathmandu",  "Kiel",       "Kingston",   "Kolkata",   "Krakow",    "Kyoto",
    "Lahore",    "Leeds",      "Leipzig",    "Liverpool",  "Ljubljana", "Luanda",    "Lusaka",
    "Lyon",      "Malaga",     "Manchester", "Manila",     "Maputo",    "Marseille", "Melbourne",
    "Memphis",   "Milan",      "Minsk",      "Montreal",   "Munich",    "Nantes",    "Naples",
    "Nashville", "Odessa",     "Osaka",      "Ottawa",     "Palermo",   "Perth",     "Phoenix",
    "Porto",     "Quebec",     "Quito",      "Rabat",      "Riga",      "Rotterdam", "Salzburg",
    "Santiago",  "Sapporo",    "Sarajevo",   "Seville",    "Shanghai",  "Sofia",     "Stuttgart",
    "Tallinn",   "Tampa",      "Tashkent",   "Tbilisi",    "Tehran",    "Tirana",    "Toulouse",
    "Tripoli",   "Tunis",      "Turin",      "Utrecht",    "Valencia",  "Vancouver", "Venice",
    "Verona",    "Vilnius",    "Windhoek",   "Winnipeg",   "Yerevan",   "Zagreb",    "Zurich"};

const Words kFirms = {
    "Acme",    "Borealis",  "Cobalt",   "Dynex",   "Everline", "Fairway",   "Gravitas", "Helix",
    "Ionix",   "Juniper",   "Kestrel",  "Lumen",   "Meridian", "Northwind", "Octane",   "Pinnacle",
    "Quartz",  "Redwood",   "Solstice", "Tundra",  "Umbra",    "Vertex",    "Westgate", "Xenon",
    "Yonder",  "Zephyr",    "Argent",   "Bluefin", "Cascade",  "Driftwood", "Ember",    "Falcon",
    "Granite", "Harbinger", "Ironclad", "Jade",    "Keystone", "Lattice",   "Monarch",  "Nimbus",
    "Orchid",  "Paragon",   "Quiver",   "Rampart", "Sable",    "Trident",   "Upland",   "Vantage",
    "Willow",  "Zenith"};
const Words kFirmKinds = {"Motors", "Foods",     "Energy", "Media",   "Air",       "Steel",
                          "Labs",   "Textiles",  "Bank",   "Mining",  "Systems",   "Logistics",
                          "Toys",   "Shipping",  "Pharma", "Telecom", "Paper",     "Robotics",
                          "Glass",  "Insurance", "Optics", "Rail",    "Chemicals", "Brewing"};

const Words kOnsets = {"b",  "c",  "d",  "f",  "g",  "h",  "j",  "k",  "l",  "m",  "n",  "p",
                       "r",  "s",  "t",  "v",  "w",  "y",  "z",  "br", "cr", "dr", "fl", "gr",
                       "kl", "pl", "qu", "sh", "sk", "sp", "st", "th", "tr", "ch"};
const Words kVowels = {"a", "e", "i", "o", "u", "a", "e", "o", "ai", "ea", "io", "ou"};
const Words kCodas = {"", "", "", "", "l", "m", "n", "r", "s", "x", "ck", "nd", "rn", "th", "sk"};

}  // namespace

const Words& FirstNames() { return kFirstNames; }
const Words& Cities() { return kCities; }
std::vector<const Words*> NameLists() {
  return {&kFirstNames, &kSurnames, &kCities, &kFirms, &kFirmKinds};
}

std::string MakeWord(Random& random, Split split) {
  return MakeFitting(split, [&] {
    std::string word;
    const int64_t syllables = random.Between(2, 3) + (random.Chance(0.15) ? 1 : 0);
    for (int64_t i = 0; i < syllables; ++i) {
      absl::StrAppend(&word, random.Pick(kOnsets), random.Pick(kVowels),
                      i + 1 == syllables || random.Chance(0.2) ? random.Pick(kCodas) : "");
    }
    return word;
  });
}

std::string MakeMadeUpName(Random& random, Split split) {
  std::string name = MakeWord(random, split);
  name[0] = absl::ascii_toupper(name[0]);
  return name;
}

std::string MakeFirstName(Random& random, Split split) {
  if (random.Chance(1.0 / 6)) return MakeMadeUpName(random, split);
  return std::string(PickFrom(random, split, kFirstNames));
}

std::string MakeSurname(Random& random, Split split) {
  if (random.Chance(0.5)) return std::string(PickFrom(random, split, kSurnames));
  return MakeFitting(split, [&] {
    return Concat({random.Pick(kSurnameBegins), random.Pick(kSurnameEnds)});
  });
}

std::string MakePersonName(Random& random, Split split) {
  const double kind = random.Unit();
  if (kind < 0.7) return MakeFirstName(random, split);
  if (kind < 0.9) {
    return Concat({MakeFirstName(random, split), " ", MakeSurname(random, split)});
  }
  constexpr absl::string_view kTitles[] = {"Dr", "Professor", "Mr", "Mrs", "Ms", "Captain"};
  return Concat({random.Pick(kTitles), " ", MakeSurname(random, split)});
}

std::string MakeCity(Random& random, Split split) {
  if (random.Chance(0.1)) return MakeMadeUpName(random, split);
  return std::string(PickFrom(random, split, kCities));
}

std::string MakeFirm(Random& random, Split split) {
  std::string name = random.Chance(0.3) ? MakeMadeUpName(random, split)
                                        : std::string(PickFrom(random, split, kFirms));
  if (random.Chance(0.5)) absl::StrAppend(&name, " ", PickFrom(random, split, kFirmKinds));
  return name;
}

}  // namespace rasq::tasks
