import com.pixelmed.validate.DicomSRValidator;

/** PixelMed's DicomSRValidator over many files in one JVM: its own main takes one, and reads six MiB of rules for each. */
class Validator {
    public static void main(String[] paths) throws Exception {
        var validator = new DicomSRValidator();
        for (var path : paths) {
            System.out.println("File " + path);
            System.out.println(validator.validate(path, false, true, false, true, false));
        }
    }
}
