//! What is a schedule and what is not (robfig/cron v3: parser_test.go, spec_test.go; and
//! validation_test.go of Kubernetes for time zones).

use holdfast_lifecycle::cron::{Schedule, ScheduleError, ZoneError, validate_time_zone};

#[test]
fn refused_with_robfigs_words() {
    let cases = [
        ("", "empty spec string", "write minute, hour"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]", "as in \"0 3 * * 1-5\""),
        (
            "* * * * * *",
            "expected exactly 5 fields, found 6: [* * * * * *]",
            "no field for seconds",
        ),
        ("   ", "expected exactly 5 fields, found 0: []", "write minute"),
        ("xyz", "expected exactly 5 fields, found 1: [xyz]", "write minute"),
        ("60 0 * * *", "end of range (60) above maximum (59): 60", "the last minute is 59"),
        ("0 60 * * *", "end of range (60) above maximum (23): 60", "the last hour is 23"),
        ("0 0 0 * *", "beginning of range (0) below minimum (1): 0", "the first day of month is 1"),
        ("0 0 32 * *", "end of range (32) above maximum (31): 32", "the last day of month is 31"),
        ("0 0 * 13 *", "end of range (13) above maximum (12): 13", "the last month is 12"),
        ("0 0 * * 7", "end of range (7) above maximum (6): 7", "Sunday is 0"),
        (
            "0 0 * * XYZ",
            "failed to parse int from XYZ: strconv.Atoi: parsing \"XYZ\": invalid syntax",
            "SUN-SAT",
        ),
        (
            "0 0 * June *",
            "failed to parse int from June: strconv.Atoi: parsing \"June\": invalid syntax",
            "three letters",
        ),
        (
            "0 0 L * *",
            "failed to parse int from L: strconv.Atoi: parsing \"L\": invalid syntax",
            "'L' is not part",
        ),
        (
            "0 0 15W * *",
            "failed to parse int from 15W: strconv.Atoi: parsing \"15W\": invalid syntax",
            "'W' is not part",
        ),
        (
            "0 0 * * 1#2",
            "failed to parse int from 1#2: strconv.Atoi: parsing \"1#2\": invalid syntax",
            "'#'",
        ),
        (
            "99999999999999999999 * * * *",
            "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \
             \"99999999999999999999\": value out of range",
            "",
        ),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3", ""),
        ("1/2/3 * * * *", "too many slashes: 1/2/3", ""),
        ("30-10 * * * *", "beginning of range (30) beyond end of range (10): 30-10", "wrap around"),
        ("*/0 * * * *", "step of range should be a positive number: */0", ""),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1", ""),
        ("-5 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax", ""),
        ("@sometimes", "unrecognized descriptor: @sometimes", "@hourly"),
        ("@every", "unrecognized descriptor: @every", "@every DURATION"),
        (
            "@every 1d",
            "failed to parse duration @every 1d: time: unknown unit \"d\" in duration \"1d\"",
            "there are no days",
        ),
        (
            "@every  5m",
            "failed to parse duration @every  5m: time: invalid duration \" 5m\"",
            "h, m or s",
        ),
        (
            "TZ=Nowhere * * * * *",
            "provided bad location Nowhere: unknown time zone Nowhere",
            "IANA name",
        ),
        ("TZ=UTC", "expected exactly 5 fields, found 0: []", "write minute"),
    ];
    for (text, message, hint) in cases {
        let error = Schedule::parse(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text:?}");
        let got = error.hint().unwrap_or_default();
        assert!(got.contains(hint) && got.is_empty() == hint.is_empty(), "{text:?}: {got:?}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn written_in_different_ways() {
    let cases = [
        ("5 * * * *", "5 * * * ?"),
        ("5/15 * * * *", "5-59/15 * * * *"),
        ("5-5 * * * *", "5 * * * *"),
        ("+5 * * * *", "5 * * * *"),
        ("1,5-7/2,3 * * * *", "1,3,5,7 * * * *"),
        ("5-6/2 * * * *", "5 * * * *"),
        ("5-7/1 * * * *", "5,6,7 * * * *"),
        (",5,, * * * *", "5 * * * *"),
        ("*/61 * * * *", "0 * * * *"),
        ("*-7 * * * *", "* * * * *"),
        ("* * */1 * *", "* * * * *"),
        ("0 0 * JAN-Mar,dec *", "0 0 * 1-3,12 *"),
        ("0 0 * * sun,Mon-FRI/2", "0 0 * * 0,1,3,5"),
        ("  0\t0 *  * * ", "0 0 * * *"),
        ("@midnight", "@daily"),
        ("@annually", "@yearly"),
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@every 1h30m", "@every 90m"),
        ("@every 999ms", "@every 1s"),
        ("@every -5m", "@every 1s"),
        ("@every 1.9s", "@every 1s"),
        ("TZ=UTC  5 * * * *", "5 * * * *"),
        ("CRON_TZ=UTC @midnight", "TZ=UTC @midnight"),
        ("TZ= 5 * * * *", "5 * * * *"),
    ];
    for (one, other) in cases {
        let (one, other) = (Schedule::parse(one).unwrap(), Schedule::parse(other).unwrap());
        assert_eq!(one, other);
    }
    let differ = [
        ("* * 1-31 * *", "* * * * *", "only a star has the star bit"),
        ("* * */2 * *", "* * 1-31/2 * *", ""),
        ("TZ=Asia/Tokyo 5 * * * *", "5 * * * *", "zones differ"),
    ];
    for (one, other, why) in differ {
        let (one, other) = (Schedule::parse(one).unwrap(), Schedule::parse(other).unwrap());
        // A step above one clears the star bit, so the second pair is the same after all.
        assert_eq!(one != other, !why.is_empty(), "{why}");
    }
    println!("{} cases", cases.len() + differ.len());
}

#[test]
fn a_zone_in_the_schedule_is_not_valid() {
    for text in ["TZ=UTC * * * * *", "CRON_TZ=Europe/Paris @daily"] {
        let error = Schedule::validate(text).unwrap_err();
        assert_eq!(error, ScheduleError::ZoneInSchedule);
        assert_eq!(
            error.to_string(),
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        );
    }
    assert!(matches!(Schedule::validate("* *"), Err(ScheduleError::Parse(_))));
    assert_eq!(Schedule::validate("0 3 * * 1-5"), Ok(()));
}

#[test]
fn time_zones() {
    for name in ["UTC", "Etc/UTC", "America/New_York", "Europe/Rome", "Etc/GMT+12", "EST5EDT"] {
        assert_eq!(validate_time_zone(name), Ok(()), "{name}");
    }
    let unknown = [
        "AMERICA/new_york",
        " Continent/Zone",
        "Continent/Zone ",
        "Continent/../Zone",
        "./Zone",
        "-Continent/Zone",
        "Continent//Zone",
        "/Zone",
        "Zone/",
        "Continent/Zone,",
        "Continent/Toolongpart123",
        "Atlantis/Poseidonis",
    ];
    for name in unknown {
        let error = validate_time_zone(name).unwrap_err();
        assert_eq!(error.to_string(), format!("unknown time zone {name}"));
    }
    assert_eq!(validate_time_zone(""), Err(ZoneError::Empty));
    assert_eq!(validate_time_zone("LOCAL"), Err(ZoneError::Local));
    let hint = validate_time_zone("AMERICA/new_york").unwrap_err().hint();
    assert_eq!(hint.as_deref(), Some("did you mean America/New_York?"));
}
